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
  {
    name: 'Redis',
    packages: ['redis-server'],
    units: ['redis-server.service'],
    listens: ['tcp/6379'],
    changed: 'Listens on all addresses instead of 127.0.0.1, without protected mode.',
    prepare: async (vm) =>
      void (await vm.shell(
        "sed -i 's/^bind .*/bind 0.0.0.0/; s/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf",
      )),
    async connect(net) {
      const connection = net.tcp(6379);
      await connection.ask('SET answer 42\r\n', /^\+OK/m);
      const probe = async () => void (await connection.ask('GET answer\r\n', /^\$2\r\n42/m));
      const request = async () => void (await connection.ask('SAVE\r\n', /^\+OK/m));
      return { connection, probe, request, close: () => connection.close() };
    },
    async visit(net) {
      const connection = net.tcp(6379);
      await connection.ask('GET answer\r\n', /^\$/m);
      await connection.close();
    },
  },
  {
    name: 'rsync daemon',
    packages: ['rsync'],
    units: ['rsync.service'],
    listens: ['tcp/873'],
    changed: 'Debian ships no /etc/rsyncd.conf: one with a module.',
    prepare: async (vm) =>
      void (await vm.shell('printf "[files]\\npath = /usr/share/common-licenses\\n" > /etc/rsyncd.conf')),
    async connect(net) {
      const connection = net.tcp(873);
      await connection.expect(/^@RSYNCD: \d+/m);
      let asked = false;
      const request = async () => {
        // The list of modules ends the connection, as the protocol has it: asked once, at the end it is simply there no more.
        if (!asked) await connection.ask('@RSYNCD: 31.0\n#list\n', /^files/m);
        asked = true;
      };
      return { connection, request, close: () => connection.close() };
    },
    async visit(net) {
      const connection = net.tcp(873);
      await connection.ask('@RSYNCD: 31.0\n#list\n', /^files/m);
      await connection.close();
    },
  },
  {
    name: 'inetd, a service that forks for each client',
    packages: ['openbsd-inetd'],
    units: ['inetd.service'],
    listens: ['tcp/2323'],
    changed: 'Debian ships no service for it: one that answers each line.',
    async prepare(vm) {
      const script = '#!/bin/sh\nwhile read line; do echo "got $line by $(cat /etc/hostname)"; done\n';
      await vm.write('/usr/local/sbin/answer', script, '755');
      await vm.write('/etc/inetd.conf', '2323 stream tcp nowait root /usr/local/sbin/answer answer\n');
    },
    async connect(net) {
      const connection = net.tcp(2323);
      const request = async () => void (await connection.ask('one\n', /^got one by /m));
      await request();
      return { connection, request, close: () => connection.close() };
    },
    async visit(net) {
      const connection = net.tcp(2323);
      await connection.ask('two\n', /^got two by /m);
      await connection.close();
    },
  },
];
