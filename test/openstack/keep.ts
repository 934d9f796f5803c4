/**
 * Keeps a cloud up while one works on the tests: `test/openstack/keep.ts SOCKET`, then SEAMLESS_TEST_CLOUD=SOCKET scripts/test openstack.
 * GET tells where its services are, POST takes an event for aodh. Ends with Ctrl-C.
 */
import { rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { json } from 'node:stream/consumers';
import type { Cloud, CloudPlaces } from './cloud.ts';
import { startCloud } from './cloud.ts';

if (import.meta.main) {
  const [socket = '/tmp/seamless-cloud.sock'] = process.argv.slice(2);
  const cloud = await startCloud(console.error);
  rmSync(socket, { force: true });
  const server = createServer(async (asked, answer) => {
    if (asked.method === 'POST') await cloud.sendAlarmEvent((await json(asked)) as object);
    answer.end(JSON.stringify(cloud));
  });
  server.listen(socket, () => console.error(`ready at ${socket}`));
  const end = () => void cloud.close().then(() => process.exit(0));
  process.once('SIGINT', end).once('SIGTERM', end);
}

/** A cloud that is up already; it stays up. */
export async function keptCloud(socketPath: string): Promise<Cloud> {
  const ask = (method: string, body: string) =>
    new Promise<CloudPlaces>((resolve, reject) => {
      const asked = request(
        { socketPath, method },
        (answer) => void json(answer).then((value) => resolve(value as CloudPlaces), reject),
      );
      asked.once('error', reject).end(body);
    });
  return {
    ...(await ask('GET', '')),
    sendAlarmEvent: async (event) => void (await ask('POST', JSON.stringify(event))),
    close: async () => {},
  };
}
