/** What `seamless sink install` and `seamless vm install` do: everything put together from the orchestrator's configuration. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { SinkAgentApi } from '../../sink-agent/api.ts';
import { createRpcClient } from '../../wire/rpc-client.ts';
import { loadTls } from '../../wire/tls.ts';
import { confirmHostKey } from '../cli/confirm-host-key.ts';
import { loadConfig } from '../config.ts';
import { scanHostKey } from '../host/ssh/scan-host-key.ts';
import { sshHost } from '../host/ssh.ts';
import { accountKey } from '../registry/account-key.ts';
import { sshTarget } from '../registry/host-entry.ts';
import { type AgentRole, packAgent } from './bundle.ts';
import type { InstallFlags } from './cli.ts';
import { type Installed, installAgent } from './install-agent.ts';

/** Node's first start takes as long on an emulated processor. */
const ANSWER_MS = 120_000;
const SCAN_MS = 15_000;

export async function install(
  role: AgentRole,
  name: string,
  url: string,
  flags: InstallFlags & { address: string; port: number },
  say: (line: string) => void,
): Promise<Installed> {
  const { address, port, templates = '' } = flags;
  const config = loadConfig(flags.config);
  const authority = { ca: config.tls.ca, caKey: flags.caKey ?? join(dirname(config.tls.ca), 'ca.key') };
  if (!existsSync(authority.caKey)) {
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `Expected the authority’s key at ${authority.caKey}: run this on the orchestrator’s machine, or name it by --ca-key`,
    );
  }
  const target = sshTarget(url);
  const keyFile = flags.key ?? (await accountKey(config.stateDir)).keyFile;
  const hostKey = flags.hostKey ?? (await shownHostKey(url, target));
  const tls = loadTls(config.tls);
  const host = sshHost({ name, ...target, keyFile, hostKey });
  try {
    const bundle = await packAgent(role, join(config.stateDir, 'bundles'));
    const what = { role, name, address, port, templatesDir: templates, bundle, authority };
    return await installAgent(host, { ...what, ask: () => ask(role, name, address, port, tls) }, say);
  } finally {
    await host.close();
  }
}

async function shownHostKey(
  url: string,
  { address, port = 22 }: { address: string; port?: number },
): Promise<string> {
  const shown = await scanHostKey({ address, port }, AbortSignal.timeout(SCAN_MS));
  if (await confirmHostKey(url, shown)) return shown.hostKey;
  throw new SeamlessError(
    'HOST_KEY_UNCONFIRMED',
    `${address} port ${port} shows the host key ${shown.fingerprint}; nobody has confirmed that it is the host’s`,
    { details: { ...shown } },
  );
}

/** Waits until it takes connections, and proves to be who it was enrolled as. */
async function ask(
  role: AgentRole,
  name: string,
  address: string,
  port: number,
  tls: ReturnType<typeof loadTls>,
): Promise<void> {
  // `describe` is what both kinds have.
  const agent = createRpcClient<Pick<SinkAgentApi, 'describe'>>({
    address,
    port,
    peer: `${role}:${name}`,
    tls,
  });
  const deadline = performance.now() + ANSWER_MS;
  try {
    for (;;) {
      try {
        await agent.call('describe', {}, { timeoutMs: 5000 });
        return;
      } catch (thrown) {
        if (performance.now() > deadline) throw thrown;
      }
      await delay(200);
    }
  } finally {
    agent.close();
  }
}
