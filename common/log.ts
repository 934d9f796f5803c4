/**
 * One structured log line per event, as JSON on standard error (journald keeps it).
 * Every transition and step carries `vmId`, `sagaId` and `step`, so that one grep tells a VM's story.
 */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Record<string, unknown>;

export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** The same log with these fields on every line. */
  with(fields: LogFields): Log;
}

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** @param write takes one line without its newline; standard error unless told. */
export function createLog(
  level: LogLevel = 'info',
  fields: LogFields = {},
  write: (line: string) => void = (line) => process.stderr.write(`${line}\n`),
): Log {
  const emit = (at: LogLevel, event: string, more: LogFields = {}) => {
    if (RANK[at] < RANK[level]) return;
    write(
      JSON.stringify({ time: new Date().toISOString(), level: at, event, ...fields, ...more }, errorsAsText),
    );
  };
  return {
    debug: (event, more) => emit('debug', event, more),
    info: (event, more) => emit('info', event, more),
    warn: (event, more) => emit('warn', event, more),
    error: (event, more) => emit('error', event, more),
    with: (more) => createLog(level, { ...fields, ...more }, write),
  };
}

/** A log that says nothing: for tests and one-shot commands. */
export const silentLog: Log = createLog('error', {}, () => {});

function errorsAsText(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const { name, message, stack } = value;
  return 'code' in value ? { name, code: value.code, message } : { name, message, stack };
}
