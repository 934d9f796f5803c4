/** Errors of the API, as RFC 9457 problem documents with our code. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { asSeamlessError, ERRORS, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  /** What the operator should do. */
  next: string;
  details: Record<string, unknown>;
}

export function problemOf(error: SeamlessError): Problem {
  const { status, next } = ERRORS[error.code];
  const { code, message, details } = error;
  const title = code.toLowerCase().replaceAll('_', ' ');
  return { type: `urn:seamless:error:${code}`, title, status, detail: message, code, next, details };
}

export function sendProblem(log: Log) {
  return (thrown: FastifyError | Error, request: FastifyRequest, reply: FastifyReply) => {
    const error = ofFastify(thrown as FastifyError) ?? asSeamlessError(thrown);
    if (error.code === 'INTERNAL') log.error('api.failed', { url: request.url, error: thrown });
    const problem = problemOf(error);
    if (error.code === 'UNAUTHENTICATED') reply.header('www-authenticate', 'Bearer realm="seamless"');
    const { retryAfterSeconds } = error.details;
    if (typeof retryAfterSeconds === 'number') reply.header('retry-after', String(retryAfterSeconds));
    return reply.code(problem.status).type('application/problem+json').send(problem);
  };
}

export function unknownRoute(request: FastifyRequest): never {
  throw new SeamlessError('ROUTE_UNKNOWN', `Expected a known path, got ${request.method} ${request.url}`);
}

/** Fastify’s own refusals: a body that fails the schema, bad JSON, a wrong content type, too large a body. */
function ofFastify(thrown: FastifyError): SeamlessError | null {
  const { statusCode, code, message, validation, validationContext } = thrown;
  if (thrown instanceof SeamlessError || !statusCode || statusCode < 400 || statusCode >= 500) return null;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new SeamlessError('BODY_TOO_LARGE', `Expected a body of at most ${BODY_BYTES} bytes`, {
      cause: thrown,
    });
  }
  const problems = validation?.map(({ instancePath, message, params }) => {
    const { additionalProperty, allowedValues } = params as {
      additionalProperty?: string;
      allowedValues?: string[];
    };
    const more = additionalProperty
      ? `: “${additionalProperty}”`
      : allowedValues
        ? `: ${allowedValues.join(', ')}`
        : '';
    return `${validationContext}${instancePath}: ${message}${more}`;
  });
  const text = problems ? problems.join('; ') : message;
  return new SeamlessError('REQUEST_INVALID', text, {
    cause: thrown,
    ...(problems ? { details: { problems } } : {}),
  });
}

/** What a request may bring; nothing of ours is larger than a few hundred bytes, a policy some thousand. */
export const BODY_BYTES = 256 * 1024;
