import { expect, test } from 'vitest';
import { SeamlessError } from '../../../common/errors.ts';
import { DirtyRateMeter } from '../../../orchestrator/hypervisor/dirty-rate.ts';

/** QEMU, as far as it measures: `answers` are what it says to one `query-dirty-rate` after the other. */
function qemu(...answers: (object | Error)[]) {
  const began: object[] = [];
  return {
    began,
    meter: new DirtyRateMeter({
      async execute<T>(command: string, args: object = {}): Promise<T> {
        if (command === 'calc-dirty-rate') {
          began.push(args);
          return {} as T;
        }
        const answer = answers.shift();
        if (answer instanceof Error) throw answer;
        return answer as T;
      },
    }),
  };
}

const UNSTARTED = { status: 'unstarted' };
const MEASURING = { status: 'measuring' };
const measured = (rate: number) => ({ status: 'measured', 'dirty-rate': rate });

test('a reading tells of the measurement before it, in bytes', async () => {
  const { meter, began } = qemu(UNSTARTED, UNSTARTED, MEASURING, measured(3), measured(3), MEASURING);
  expect(await meter.read()).toBeNull();
  await meter.begin();
  expect(await meter.read()).toBeNull();
  expect(await meter.read()).toBe(3 * 1024 * 1024);
  await meter.begin();
  expect(await meter.read()).toBe(3 * 1024 * 1024);
  expect(began).toEqual([
    { 'calc-time': 5, mode: 'page-sampling' },
    { 'calc-time': 5, mode: 'page-sampling' },
  ]);
});

test('one that somebody else began is waited for, and not believed', async () => {
  const { meter, began } = qemu(MEASURING, measured(9), measured(9));
  await meter.begin();
  expect(began).toEqual([]);
  expect(await meter.read()).toBeNull();
});

test('a hypervisor without the command can’t tell, ever; one that does not answer could', async () => {
  const received = '{"error": {"class": "CommandNotFound", "desc": "The command … has not been found"}}';
  const { meter } = qemu(
    new SeamlessError('TIMEOUT', 'no query-dirty-rate'),
    new SeamlessError('COMMAND_FAILED', 'not found', { details: { received } }),
  );
  await expect(meter.read()).rejects.toThrow('no query');
  expect(await meter.read()).toBe('none');
  expect(await meter.read()).toBe('none');
  await meter.begin();
});
