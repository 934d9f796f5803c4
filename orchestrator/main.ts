/**
 * The orchestrator's service: `orchestrator/main.ts --config FILE`.
 *
 * For tests alone, by SAGA.STEP.EVENT (`park.checkpoint.succeeded`): with SEAMLESS_CRASH_AFTER=POINT the process kills itself right
 * after that record is durable, which is the worst moment there is; with SEAMLESS_STOP_AFTER=FILE it stops (SIGSTOP) after the one
 * that the file names, once, so that a fault can be made at exactly that step.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { createLog } from '../common/log.ts';
import { loadConfig } from './config.ts';
import type { JournalRecord } from './saga/journal.ts';
import { startService } from './service.ts';

try {
  const { values } = parseArgs({ options: { config: { type: 'string' } } });
  if (!values.config) throw new SeamlessError('REQUEST_INVALID', 'Expected --config FILE');
  const config = loadConfig(values.config);
  const log = createLog(config.logLevel ?? 'info', { service: 'orchestrator' });
  const onFatal = (error: unknown) => {
    log.error('fatal', { error });
    process.exit(ERRORS.INTERNAL.exit);
  };
  const { SEAMLESS_CRASH_AFTER: crashAfter, SEAMLESS_STOP_AFTER: stopAfter } = process.env;
  const service = await startService({
    config,
    log,
    onFatal,
    ...(crashAfter ? { onRecord: crashingAfter(crashAfter) } : {}),
    ...(stopAfter ? { onRecord: stoppingAfter(stopAfter) } : {}),
  });
  let isEnding = false;
  const end = () => {
    if (isEnding) return;
    isEnding = true;
    log.info('ending');
    service.close().then(() => process.exit(0), onFatal);
  };
  // Not `once`: while a command runs, execa's own listener ends the process at once when it finds itself alone.
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
} catch (thrown) {
  const error = asSeamlessError(thrown);
  process.stderr.write(`${error.code}: ${error.message}\n${ERRORS[error.code].next}\n`);
  process.exit(ERRORS[error.code].exit);
}

function crashingAfter(point: string) {
  return (record: JournalRecord) => {
    if (point === pointOf(record)) process.kill(process.pid, 'SIGKILL');
  };
}

function stoppingAfter(file: string) {
  return (record: JournalRecord) => {
    if (!existsSync(file) || readFileSync(file, 'utf8') !== pointOf(record)) return;
    rmSync(file);
    process.kill(process.pid, 'SIGSTOP');
  };
}

function pointOf({ saga, step, event }: JournalRecord): string {
  return `${saga?.split('-')[0]}.${step}.${event}`;
}
