/**
 * The main job, real in every part: a VM with users on it is parked three times and comes back by a typed command,
 * by a new login, and by the command line. Everything reported was measured in this run; what a client should not have
 * noticed and did is a violation, and makes the exit status 1.
 */
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS } from '../common/errors.ts';
import { playDemo } from './play.ts';
import { renderReport } from './report.ts';
import { prepareStage } from './stage.ts';

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    transport: { type: 'string', default: 'ssh' },
    sink: { type: 'string', default: 'namespaces' },
  },
});

const say = (text: string) => process.stderr.write(`${text}\n`);
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

try {
  const stage = await prepareStage(say, interrupted.signal, {
    keepLab: options.keep,
    transport: options.transport,
    sink: options.sink,
  });
  try {
    const report = await playDemo(stage, say, interrupted.signal);
    process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${renderReport(report)}\n`);
    process.exitCode = report.violations.length === 0 ? 0 : 1;
  } finally {
    await stage.close();
  }
} catch (thrown) {
  const error = asSeamlessError(thrown);
  const output = error.details.output;
  say(`demo: ${error.message}\n  ${ERRORS[error.code].next}${output ? `\n${output}` : ''}`);
  if (error.code === 'INTERNAL') say(error.stack ?? '');
  process.exitCode = ERRORS[error.code].exit;
}
