/** The vm-agent: `main.ts --config FILE`. A service in the guest, as root. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ERRORS } from '../common/errors.ts';
import { createLog } from '../common/log.ts';
import { assertSupported } from '../criu/arguments.ts';
import { openLauncher } from '../criu/launcher.ts';
import { criuVersion } from '../criu/run.ts';
import { startRpcServer } from '../wire/rpc-server.ts';
import { loadTls } from '../wire/tls.ts';
import type { VmAgentApi } from './api.ts';
import { readConfig } from './config.ts';
import type { AgentContext } from './context.ts';
import { openImageStore } from './images.ts';
import { recover } from './recovery.ts';
import { createService, readTemplateId } from './service.ts';
import { openState } from './state.ts';
import { createUnitReader } from './systemd/unit.ts';

const IMAGES = '/run/seamless/images';
/** Beside the agent’s own folder, where the template’s builder puts what `npm run build` has compiled. */
const BUILD = join(import.meta.dirname, '../build');
const GATES = '/run/seamless/gates';
const STATE = '/run/seamless/state.json';

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string' }, debug: { type: 'boolean' } } });
  const config = readConfig(values.config ?? `${process.env['CREDENTIALS_DIRECTORY']}/seamless.config`);
  const log = createLog(values.debug ? 'debug' : 'info', { vmId: config.vm });
  const version = await criuVersion();
  assertSupported(version);
  const launcher = openLauncher((reason) => {
    log.error('launcher.lost', { reason });
    process.exit(ERRORS.INTERNAL.exit); // as after any death of the agent: the next one looks what has become of the processes
  });
  const context: AgentContext = {
    vm: config.vm,
    templateId: readTemplateId(),
    criuVersion: version,
    managementAddress: config.listen.address,
    helpers: {
      notifyAs: join(BUILD, 'notify-as'),
      standIns: join(BUILD, 'stand-ins'),
      observer: join(BUILD, 'syscall-observer'),
    },
    launcher,
    gates: GATES,
    images: await openImageStore(IMAGES),
    state: openState(STATE),
    units: createUnitReader(),
    log,
  };
  await recover(context);
  const { handlers, images } = createService(context);
  const { port } = await startRpcServer<VmAgentApi>({
    listen: config.listen,
    tls: loadTls(config.tls),
    allow: (peer) => peer === 'orchestrator' || peer.startsWith('sink-agent:'),
    handlers,
    images,
    log,
  });
  // CRIU finds out once per boot what the kernel can do, and remembers it; better now than at the first park.
  launcher.exec(['criu', 'check']).catch((error: unknown) => log.warn('criu.check', { error }));
  log.info('agent.started', { address: config.listen.address, port, criuVersion: version });
}

await main().catch((error: unknown) => {
  createLog().error('agent.failed', { error });
  process.exitCode = 1;
});
