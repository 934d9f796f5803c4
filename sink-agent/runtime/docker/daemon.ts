/**
 * The container engine: Docker, or Podman by the same API. Each request has a deadline, and a failure says what was asked and by which socket.
 * Nobody keeps a connection: an engine that is restarted goes unnoticed but by who asks it meanwhile.
 */
import Docker from 'dockerode';
import { SeamlessError } from '../../../common/errors.ts';

export interface Daemon {
  /** Asks the engine; `RUNTIME_UNREACHABLE` when it does not answer, `COMMAND_FAILED` when it refuses. */
  ask<T>(what: string, request: (docker: Docker) => Promise<T>, timeoutMs?: number): Promise<T>;
  /** As `ask`, with `null` for what does not exist. */
  find<T>(what: string, request: (docker: Docker) => Promise<T>): Promise<T | null>;
}

const ANSWER_MS = 20_000;
/** For what is only looked up. */
const LOOK_MS = 5000;
const NOT_FOUND = 404;

export function connectDaemon(socket: string): Daemon {
  const docker = new Docker({ socketPath: socket });
  const ask = async <T>(
    what: string,
    request: (docker: Docker) => Promise<T>,
    timeoutMs = ANSWER_MS,
  ): Promise<T> => {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    try {
      return await Promise.race([request(docker), late.promise]);
    } catch (cause) {
      throw failure(socket, what, cause as EngineError);
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    ask,
    find: <T>(what: string, request: (docker: Docker) => Promise<T>) =>
      ask<T | null>(
        what,
        (engine) =>
          request(engine).catch((error: EngineError) => {
            if (error.statusCode === NOT_FOUND) return null;
            throw error;
          }),
        LOOK_MS,
      ),
  };
}

/** As docker-modem throws it: with a status when the engine has answered. */
type EngineError = Error & { statusCode?: number; json?: { message?: string } };

function failure(socket: string, what: string, cause: EngineError): SeamlessError {
  if (cause instanceof SeamlessError) return cause;
  const said = cause.json?.message ?? cause.message;
  if (cause.statusCode !== undefined) {
    return new SeamlessError(
      'COMMAND_FAILED',
      `The container engine at ${socket} refused to ${what}: ${said}`,
      {
        cause,
        details: { status: cause.statusCode },
      },
    );
  }
  return new SeamlessError(
    'RUNTIME_UNREACHABLE',
    `Expected the container engine at ${socket} to ${what}, got ${said}; start it, or mend \`runtime.socket\``,
    { cause },
  );
}
