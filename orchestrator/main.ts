/**
 * The orchestrator's service: `orchestrator/main.ts --config FILE`.
 *
 * SEAMLESS_CRASH_AFTER=SAGA.STEP.EVENT (`park.checkpoint.succeeded`) is for tests alone: the process kills itself
 * right after that record is durable, which is the worst moment there is.
 */
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
  const crashAfter = process.env.SEAMLESS_CRASH_AFTER;
  const service = await startService({
    config,
    log,
    onFatal,
    ...(crashAfter ? { onRecord: crashingAfter(crashAfter) } : {}),
  });
  const end = () => {
    log.info('ending');
    service.close().then(() => process.exit(0), onFatal);
  };
  process.once('SIGTERM', end);
  process.once('SIGINT', end);
} catch (thrown) {
  const error = asSeamlessError(thrown);
  process.stderr.write(`${error.code}: ${error.message}\n${ERRORS[error.code].next}\n`);
  process.exit(ERRORS[error.code].exit);
}

function crashingAfter(point: string) {
  return ({ saga, step, event }: JournalRecord) => {
    if (point === `${saga?.split('-')[0]}.${step}.${event}`) process.kill(process.pid, 'SIGKILL');
  };
}
