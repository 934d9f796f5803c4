/** What is usual on small servers: names, mail, messages, a proxy, metrics; in C, Go and Python, with epoll, threads, forks and datagrams. */
import type { Application, ClientNetwork, Session } from '../application.ts';
import type { Connection } from '../connection.ts';

/** A question for the address of gw.lab. */
const QUESTION = '\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02gw\x03lab\x00\x00\x01\x00\x01';
/** … which is 10.1.2.3. */
const ANSWER = /^\x12\x34[^]*\x0a\x01\x02\x03/m;

const MQTT_CONNECT = '\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01';

type Exchange = readonly [ask: string, answer: RegExp];

const page = (path: string, answer: RegExp): Exchange => [
  `GET ${path} HTTP/1.1\r\nHost: vm1\r\n\r\n`,
  answer,
];

/** `greeting` begins a connection, `memory` is answered in the sink, `files` only in the VM. */
function tcp(
  port: number,
  steps: { greeting: Exchange; memory?: Exchange; files?: Exchange },
): Pick<Application, 'listens' | 'connect' | 'visit'> {
  const { greeting, memory, files } = steps;
  const exchange =
    (connection: Connection, [ask, answer]: Exchange) =>
    async () =>
      void (await connection.ask(ask, answer));
  return {
    listens: [`tcp/${port}`],
    async connect(net): Promise<Session> {
      const connection = net.tcp(port);
      await exchange(connection, greeting)();
      return {
        connection,
        ...(memory ? { probe: exchange(connection, memory) } : {}),
        ...(files ? { request: exchange(connection, files) } : {}),
        close: () => connection.close(),
      };
    },
    visit: (net) => once(net.tcp(port), greeting),
  };
}

async function once(connection: Connection, [ask, answer]: Exchange): Promise<void> {
  await connection.ask(ask, answer);
  await connection.close();
}

/** TCP, UDP, a pool of threads and child processes, in one event loop. */
const ASYNC_SERVER = `import asyncio
def read(): return open('/etc/hostname', 'rb').read()
async def serve(reader, writer):
    while line := await reader.readline():
        if line == b'thread\\n': answer = b'thread: ' + await asyncio.to_thread(read)
        elif line == b'child\\n':
            child = await asyncio.create_subprocess_exec('cat', '/etc/hostname', stdout=asyncio.subprocess.PIPE)
            answer = b'child: ' + (await child.communicate())[0]
        else: answer = b'memory: ' + line
        writer.write(answer)
        await writer.drain()
    writer.close()
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, address): self.transport.sendto(b'memory: ' + data, address)
async def tick():
    while True: await asyncio.sleep(0.5)
async def main():
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=('0.0.0.0', 7001))
    ticking = asyncio.create_task(tick())
    await (await asyncio.start_server(serve, '0.0.0.0', 7001)).serve_forever()
asyncio.run(main())
`;

const asyncServer = {
  packages: ['python3'],
  units: ['async-server.service'],
  async prepare(vm) {
    await vm.write('/usr/local/sbin/async-server', ASYNC_SERVER);
    const unit = '[Service]\nExecStart=/usr/bin/python3 /usr/local/sbin/async-server\n';
    await vm.write('/etc/systemd/system/async-server.service', unit);
    await vm.run('systemctl', 'daemon-reload');
  },
} satisfies Partial<Application>;

export const applications: Application[] = [
  {
    name: 'dnsmasq, datagrams and a client over TCP',
    packages: ['dnsmasq'],
    units: ['dnsmasq.service'],
    listens: ['udp/53', 'tcp/53'],
    changed: 'One name of its own, and no resolv.conf, whose time it asks for with each query.',
    prepare: (vm) => vm.write('/etc/dnsmasq.d/test.conf', 'host-record=gw.lab,10.1.2.3\nno-resolv\n'),
    async connect(net) {
      const connection = net.udp(53);
      const probe = async () => void (await connection.ask(QUESTION, ANSWER));
      await probe();
      return { probe, close: () => connection.close() };
    },
    visit: (net: ClientNetwork) =>
      once(net.tcp(53), [`\x00${String.fromCharCode(QUESTION.length)}${QUESTION}`, /\x0a\x01\x02\x03/]),
  },
  {
    name: 'Mosquitto',
    packages: ['mosquitto'],
    units: ['mosquitto.service'],
    changed: 'Listens on all addresses, without passwords.',
    prepare: (vm) => vm.write('/etc/mosquitto/conf.d/test.conf', 'listener 1883\nallow_anonymous true\n'),
    ...tcp(1883, { greeting: [`${MQTT_CONNECT}a`, /\x20\x02\x00\x00/], memory: ['\xc0\x00', /\xd0\x00/] }),
    visit: (net) => once(net.tcp(1883), [`${MQTT_CONNECT}b`, /\x20\x02\x00\x00/]),
  },
  {
    name: 'HAProxy',
    packages: ['haproxy'],
    units: ['haproxy.service'],
    changed: 'One frontend, with an idle time of an hour.',
    prepare: async (vm) =>
      void (await vm.shell(
        `cd /etc/haproxy && grep -q 8090 haproxy.cfg || printf '%s\\n' 'frontend test' ' bind :8090' ' mode http' ' timeout client 1h' ' timeout http-keep-alive 1h' ' http-request return status 200 content-type text/plain string hello' >> haproxy.cfg`,
      )),
    // Each request is a line for syslog, by a socket that stays in the VM.
    ...tcp(8090, { greeting: page('/', /hello/), files: page('/', /hello/) }),
  },
  {
    name: 'exim4',
    packages: ['exim4-daemon-light'],
    units: ['exim4.service'],
    changed: 'Listens on all addresses.',
    prepare: async (vm) =>
      void (await vm.shell(
        `sed -i "s/^dc_local_interfaces=.*/dc_local_interfaces=''/" /etc/exim4/update-exim4.conf.conf && update-exim4.conf`,
      )),
    ...tcp(25, { greeting: ['', /^220 .*ESMTP/m], memory: ['NOOP\r\n', /^250 /m] }),
  },
  {
    name: 'Prometheus node exporter, a program in Go',
    packages: ['prometheus-node-exporter'],
    units: ['prometheus-node-exporter.service'],
    ...tcp(9100, {
      greeting: page('/', /Node Exporter/),
      memory: page('/', /Node Exporter/),
      files: page('/metrics', /node_load1 /),
    }),
  },
  {
    ...asyncServer,
    name: 'Python asyncio: threads and children',
    ...tcp(7001, {
      greeting: ['child\n', /child: vm1/],
      memory: ['line\n', /memory: line/],
      files: ['thread\n', /thread: vm1/],
    }),
  },
  {
    ...asyncServer,
    name: 'Python asyncio: datagrams',
    listens: ['udp/7001'],
    async connect(net) {
      const connection = net.udp(7001);
      const probe = async () => void (await connection.ask('datagram\n', /memory: datagram/));
      await probe();
      return { probe, close: () => connection.close() };
    },
    visit: (net) => once(net.tcp(7001), ['child\n', /child: vm1/]),
  },
];
