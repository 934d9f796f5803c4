/** Speaks as much QMP as a watch needs, to however many come. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

export interface Qemus {
  path: string;
  open(): Promise<void>;
  close(): Promise<void>;
  /** Whose handshake is done. */
  clients(): number;
  /** The most handshakes at once. */
  peak(): number;
}

export async function startQemus(path: string): Promise<Qemus> {
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  let [peak, greeting] = [0, 0];
  let server: Server | null = null;
  const open = async () => {
    server = createServer((client) => {
      sockets.add(client);
      greeting += 1;
      peak = Math.max(peak, greeting);
      client.on('error', () => {});
      client.on('close', () => {
        if (!clients.delete(client)) greeting -= 1;
        sockets.delete(client);
      });
      client.write('{"QMP": {"version": {}, "capabilities": []}}\n');
      client.on('data', (data) => {
        if (!clients.has(client)) greeting -= 1;
        clients.add(client);
        for (const line of String(data).trim().split('\n')) {
          client.write(`{"return": {}, "id": ${(JSON.parse(line) as { id: number }).id}}\n`);
        }
      });
    });
    server.listen(path);
    await once(server, 'listening');
  };
  const close = async () => {
    // Also those that have yet to say something: the server’s end waits for all.
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
    server = null;
  };
  await open();
  return { path, open, close, clients: () => clients.size, peak: () => peak };
}
