import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { SeamlessError } from '../../../../common/errors.ts';
import { startTraces } from '../../../../orchestrator/metrics/traces.ts';
import { serve } from './served.ts';

interface OtlpSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  status?: { code?: number; message?: string };
  attributes: { key: string; value: { stringValue?: string } }[];
}

test('an operation is one trace with a span for each step, and what failed says so', async () => {
  const { url, spans } = await receiver();
  const served = await serve();
  const traces = startTraces(served.journal, { url, delayMs: 10 });
  const { world, driver } = served.vms.get('vm1') ?? expect.unreachable();
  world.fault = (_call, name) => {
    if (name === 'vmAgent.checkpoint') throw new SeamlessError('CHECKPOINT_FAILED', 'CRIU could not dump');
  };
  await served.client.post('/v1/vms/vm1/park');
  await driver.idle();
  world.fault = () => {};
  await served.client.post('/v1/vms/vm1/park');
  await driver.idle();
  await traces.close();

  const [failed, succeeded] = spans.filter(({ parentSpanId }) => !parentSpanId);
  expect(failed).toMatchObject({ name: 'park', status: { code: 2, message: 'CRIU could not dump' } });
  expect(failed?.attributes).toContainEqual({
    key: 'seamless.code',
    value: { stringValue: 'CHECKPOINT_FAILED' },
  });
  expect(succeeded?.attributes).toContainEqual({ key: 'seamless.vm', value: { stringValue: 'vm1' } });
  expect(succeeded?.traceId).not.toBe(failed?.traceId);
  const of = (root?: OtlpSpan) =>
    spans.filter(({ parentSpanId, traceId }) => parentSpanId === root?.spanId && traceId === root?.traceId);
  expect(of(failed).map(({ name }) => name)).toEqual(
    expect.arrayContaining(['checkpoint', 'undo checkpoint', 'undo hold']),
  );
  expect(of(succeeded).map(({ name }) => name)).toEqual([
    ...['admit', 'prepare', 'plug', 'probe', 'hold', 'checkpoint', 'receive'],
    ...['restore', 'flip', 'divert', 'run', 'switchOff', 'confirm'],
  ]);
});

test('a receiver that is not there delays neither an operation nor the end', async () => {
  const served = await serve();
  const traces = startTraces(served.journal, { url: 'http://127.0.0.1:1/v1/traces', delayMs: 10 });
  await served.client.post('/v1/vms/vm1/park');
  await served.vms.get('vm1')?.driver.idle();
  expect(served.vms.get('vm1')?.driver.state.kind).toBe('parked');
  await traces.close();
});

async function receiver(): Promise<{ url: string; spans: OtlpSpan[] }> {
  const spans: OtlpSpan[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    for (const { scopeSpans } of JSON.parse(text).resourceSpans) {
      for (const scope of scopeSpans) spans.push(...scope.spans);
    }
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`, spans };
}
