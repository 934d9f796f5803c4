/** Daemons of other kinds: event loops, thread pools, one that forks for each client; text, binary and datagrams. */
import type { Application } from '../application.ts';
import { get, visit } from '../http.ts';

export const applications: Application[] = [
  {
    name: 'nginx',
    packages: ['nginx-light'],
    units: ['nginx.service'],
    listens: ['tcp/80'],
    prepare: async (vm) => void (await vm.shell('echo hello from vm1 > /var/www/html/hello.txt')),
    async connect(net) {
      const connection = net.tcp(80);
      await get(connection, '/hello.txt');
      return { connection, request: () => get(connection, '/hello.txt'), close: () => connection.close() };
    },
    visit: (net) => visit(net, 80, '/hello.txt'),
  },
  {
    name: 'Memcached',
    packages: ['memcached'],
    units: ['memcached.service'],
    listens: ['tcp/11211'],
    changed: 'Listens on all addresses instead of 127.0.0.1.',
    prepare: async (vm) => void (await vm.shell("sed -i 's/^-l .*/-l 0.0.0.0/' /etc/memcached.conf")),
    async connect(net) {
      const connection = net.tcp(11211);
      await connection.ask('set answer 0 0 2\r\n42\r\n', /^STORED/m);
      const probe = async () =>
        void (await connection.ask('get answer\r\n', /^VALUE answer 0 2\r\n42\r\nEND/m));
      return { connection, probe, close: () => connection.close() };
    },
    async visit(net) {
      const connection = net.tcp(11211);
      await connection.ask('get answer\r\n', /^END/m);
      await connection.close();
    },
  },
];
