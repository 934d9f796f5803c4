/** HTTP as a browser speaks it: many requests on one connection. */
import type { ClientNetwork } from './application.ts';
import type { Connection } from './connection.ts';

/** Of whichever VM; its address says which. */
export const GREETING = 'hello from [a-z0-9]+';

/** Asks on a connection that stays open. */
export async function get(connection: Connection, path: string): Promise<void> {
  connection.send(`GET ${path} HTTP/1.1\r\nHost: vm1\r\n\r\n`);
  await connection.expect(/^HTTP\/1\.1 200 /m);
  await connection.expect(new RegExp(GREETING));
}

/** A connection of its own. */
export async function visit(net: ClientNetwork, port: number, path: string): Promise<void> {
  const connection = net.tcp(port);
  try {
    await get(connection, path);
  } finally {
    await connection.close();
  }
}
