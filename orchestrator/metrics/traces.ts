/**
 * Operations as OpenTelemetry traces: one trace for each, a span for each step, sent when it has ended. Read from the
 * journal, so an operation that a crash interrupted is one trace, too. A receiver that is slow or gone delays nothing:
 * what does not fit the exporter’s queue is dropped.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { ErrorBody } from '../../common/errors.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { operationOf } from '../vm/operation.ts';

export interface TracesOptions {
  /** `http://collector:4318/v1/traces` */
  url: string;
  /** Milliseconds until what has ended is sent; 2 s unless told. */
  delayMs?: number;
}

const END_MS = 1000;

export function startTraces(
  journal: Journal,
  { url, delayMs = 2000 }: TracesOptions,
): { close(): Promise<void> } {
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: 5000 });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'seamless' }),
    spanProcessors: [
      new BatchSpanProcessor(exporter, { scheduledDelayMillis: delayMs, exportTimeoutMillis: 5000 }),
    ],
  });
  const tracer = provider.getTracer('seamless.saga');
  const tell = (saga: string) => {
    const records = journal.ofSaga(saga);
    const operation = operationOf(records);
    if (!operation) return;
    const { vm, kind, status, cause, error, startedAt, endedAt } = operation;
    const attributes = {
      ...{ 'seamless.vm': vm, 'seamless.operation': saga, 'seamless.outcome': status },
      ...(cause ? { 'seamless.cause': cause } : {}),
    };
    const root = tracer.startSpan(
      kind,
      { kind: SpanKind.INTERNAL, startTime: new Date(startedAt), attributes, root: true },
      ROOT_CONTEXT,
    );
    const within = trace.setSpan(ROOT_CONTEXT, root);
    const open = new Map<string, Span>();
    for (const { step, event, atMs, body } of records) {
      if (step === null) continue;
      const begins = event === 'started' || event === 'undoStarted';
      const name = event.startsWith('undo') ? `undo ${step}` : step;
      if (begins) {
        // Begun again after a crash: nobody knows when the first attempt ended.
        open.get(name)?.end(atMs);
        open.set(name, tracer.startSpan(name, { startTime: atMs }, within));
        continue;
      }
      const span = open.get(name);
      open.delete(name);
      if (span && (event === 'failed' || event === 'undoFailed')) fail(span, body.error as ErrorBody);
      span?.end(atMs);
    }
    const endMs = endedAt === null ? Date.now() : Date.parse(endedAt);
    for (const span of open.values()) span.end(endMs);
    if (error) fail(root, error);
    root.end(endMs);
  };
  const stop = journal.subscribe(({ event, saga }: JournalRecord) => {
    if (event === 'sagaEnded' && saga !== null) tell(saga);
  });
  return {
    async close() {
      stop();
      // What nobody takes now is lost, and no reason to stay.
      const ended = provider.shutdown().catch(() => {});
      await Promise.race([ended, delay(END_MS, undefined, { ref: false })]);
    },
  };
}

function fail(span: Span, error: ErrorBody | undefined): void {
  if (!error) return;
  span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
  span.setAttribute('seamless.code', error.code);
}
