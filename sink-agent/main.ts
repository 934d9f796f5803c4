/**
 * The sink agent: `main.ts --config FILE`. Serves SinkAgentApi to the orchestrator on the management network.
 * When it ends, its filters freeze the sinks; the next one finds them by their records and goes on.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { createLog } from '../common/log.ts';
import { GATE_PROGRAM } from '../criu/gate.ts';
import { LAUNCHER_PROGRAM, openLauncher } from '../criu/launcher.ts';
import { PAGE_DIGESTS_PROGRAM } from '../criu/page-digests.ts';
import { startRpcServer } from '../wire/rpc-server.ts';
import { loadTls } from '../wire/tls.ts';
import type { SinkAgentApi, SinkAgentEvent } from './api.ts';
import { readConfig } from './config.ts';
import { createHandlers } from './handlers.ts';
import { openImageStore } from './images.ts';
import { openRecordStore } from './record.ts';
import { openRegistry } from './registry.ts';
import { openRuntime } from './runtime/open.ts';
import { prepareCgroupRoot } from './sandbox/cgroup.ts';
import { openTemplateStore } from './templates.ts';

const FILTER = join(import.meta.dirname, '..', 'build', 'syscall-filter');

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string' } } });
  if (values.config === undefined)
    throw new SeamlessError('CONFIG_INVALID', 'Expected --config FILE, got nothing');
  const config = await readConfig(values.config);
  const log = createLog(process.env.SEAMLESS_LOG === 'debug' ? 'debug' : 'info', { sinkServer: config.name });
  const tls = loadTls(config.tls);
  const controllers = await prepareCgroupRoot(config.cgroupRoot);
  for (const helper of [FILTER, GATE_PROGRAM, PAGE_DIGESTS_PROGRAM, LAUNCHER_PROGRAM]) {
    if (existsSync(helper)) continue;
    throw new SeamlessError('PREREQUISITE_MISSING', `Expected ${helper}, got nothing; run npm run build`);
  }
  const templates = openTemplateStore(config.templatesDir);
  const runtime = await openRuntime(config, log);
  const launcher = openLauncher((reason) => {
    log.error('launcher.lost', { reason });
    process.exit(ERRORS.INTERNAL.exit); // as after any death of the agent: the next one looks what has become of each sink
  });
  const limits = config.runtime.type === 'docker' ? ['memory and pids by Docker'] : controllers;
  const registry = await openRegistry({
    templates,
    runtime,
    stateDir: config.stateDir,
    cgroupRoot: config.cgroupRoot,
    filterBinary: FILTER,
    pageOutAfterMs: config.pageOutAfterMs,
    tls,
    launcher,
    images: await openImageStore(join(config.stateDir, 'images'), launcher.exec),
    records: await openRecordStore(join(config.stateDir, 'sinks')),
    log,
  });
  const server = await startRpcServer<SinkAgentApi, SinkAgentEvent>({
    listen: config.listen,
    tls,
    allow: (peer) => peer === 'orchestrator',
    handlers: createHandlers(config.name, registry, templates, limits),
    images: {
      send: refuseImages,
      receive: refuseImages,
    },
    events: registry.events,
    log,
  });
  log.info('agent.listening', { address: config.listen.address, port: server.port });
  let isEnding = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // Not `once`: while a command runs, execa's own listener ends the process at once when it finds itself alone.
    process.on(signal, () => {
      if (isEnding) return;
      isEnding = true;
      log.info('agent.ending', { signal });
      void server.close().then(() => process.exit(0));
    });
  }
}

/** Images go between the agents, and of that connection the sink agent is the client. */
async function refuseImages(): Promise<never> {
  throw new SeamlessError(
    'REQUEST_INVALID',
    'A sink agent fetches and sends images itself; call receive or send',
  );
}

main().catch((thrown: unknown) => {
  const error = asSeamlessError(thrown);
  process.stderr.write(`sink-agent: ${error.message}\n`);
  process.exit(ERRORS[error.code].exit);
});
