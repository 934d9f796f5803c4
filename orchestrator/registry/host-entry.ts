/** From what a person types, `ssh://root@hv1.example:2222`, to a host of the configuration. */
import { SeamlessError } from '../../common/errors.ts';
import type { HostConfig } from '../config.ts';

export interface NewHost {
  name: string;
  /** `ssh://[user@]host[:port]` */
  url: string;
  hostKey: string;
  keyFile: string;
  bridge?: string;
  openflowSocket?: string;
  ovsdbSocket?: string;
  switchControl?: string;
  runDir?: string;
}

/** Where Debian's and most other packages of Open vSwitch have their sockets. */
const OVS = '/run/openvswitch';

export function hostEntry({ name, url, hostKey, keyFile, bridge = 'br-int', ...paths }: NewHost): HostConfig {
  return {
    name,
    transport: { type: 'ssh', ...sshTarget(url), keyFile, hostKey },
    bridge,
    openflowSocket: paths.openflowSocket ?? `${OVS}/${bridge}.mgmt`,
    ovsdbSocket: paths.ovsdbSocket ?? `${OVS}/db.sock`,
    switchControl: paths.switchControl ?? `${OVS}/ovs-vswitchd.PID.ctl`,
    ...(paths.runDir ? { runDir: paths.runDir } : {}),
  };
}

/** Throws `REQUEST_INVALID`. */
export function sshTarget(url: string): { address: string; user?: string; port?: number } {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  const plain =
    parsed && !parsed.password && ['', '/'].includes(parsed.pathname) && !parsed.search && !parsed.hash;
  if (parsed?.protocol !== 'ssh:' || !parsed.hostname || !plain) {
    throw new SeamlessError('REQUEST_INVALID', `Expected ssh://[USER@]HOST[:PORT], got “${url}”`);
  }
  return {
    address: parsed.hostname.replace(/^\[|\]$/g, ''),
    ...(parsed.username ? { user: decodeURIComponent(parsed.username) } : {}),
    ...(parsed.port ? { port: Number(parsed.port) } : {}),
  };
}
