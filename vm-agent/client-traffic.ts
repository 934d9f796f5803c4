/** What a client has been sent on its TCP connection, as the kernel counts it: since the connection was made or restored. */
import { exec } from '../common/exec.ts';

/** `203.0.113.7:51312`, `[fd77::2]:51312` */
const CLIENT = /^(?:\[([0-9a-f:.]+)\]|([\d.]+)):(\d{1,5})$/;

/** Bytes of payload sent to `client`; `null` when it has no connection (any more), or is no address with a port. */
export async function sentTo(client: string): Promise<number | null> {
  const port = Number(CLIENT.exec(client)?.[3] ?? 0);
  if (port < 1 || port > 65535) return null;
  const filter = ['state', 'established', 'dport', '=', `:${port}`];
  const { stdout } = await exec([
    'ss',
    '--tcp',
    '--no-header',
    '--numeric',
    '--info',
    '--oneline',
    ...filter,
  ]);
  return parseSent(stdout, client);
}

/** @param listed lines of `ss --tcp --no-header --info --oneline`, in one state: two queues, local and peer's address, facts */
export function parseSent(listed: string, client: string): number | null {
  const wanted = plain(client);
  const rows = listed.split('\n').map((line) => line.trim().split(/\s+/));
  const own = rows.filter(([, , , peer = '']) => plain(peer) === wanted);
  if (own.length === 0) return null;
  const sent = own.flatMap((row) => row.flatMap((fact) => /^bytes_sent:(\d+)$/.exec(fact)?.[1] ?? []));
  return sent.reduce((total, bytes) => total + Number(bytes), 0);
}

/** A server that listens on IPv6 sees an IPv4 client as `[::ffff:203.0.113.7]`. */
function plain(endpoint: string): string {
  return endpoint.replace(/^\[::ffff:([\d.]+)\]/, '$1');
}
