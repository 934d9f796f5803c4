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
    const error = isClientError(thrown)
      ? new SeamlessError('REQUEST_INVALID', thrown.message, { cause: thrown })
      : asSeamlessError(thrown);
    if (error.code === 'INTERNAL') log.error('api.failed', { url: request.url, error: thrown });
    const problem = problemOf(error);
    return reply.code(problem.status).type('application/problem+json').send(problem);
  };
}

/** Fastify’s own refusals: a body that fails the schema, bad JSON, a wrong content type. */
function isClientError(thrown: Error): boolean {
  const { statusCode } = thrown as FastifyError;
  return statusCode !== undefined && statusCode >= 400 && statusCode < 500;
}
