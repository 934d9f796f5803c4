/** vsftpd: a logged-in session, which Debian's configuration gives local users. */
import type { Application, ClientNetwork } from '../application.ts';

const PORT = 21;
const USER = 'ftpuser';
const PASSWORD = 'not-a-secret';

async function logIn(net: ClientNetwork) {
  const connection = net.tcp(PORT);
  await connection.expect(/^220 /m);
  await connection.ask(`USER ${USER}\r\n`, /^331 /m);
  await connection.ask(`PASS ${PASSWORD}\r\n`, /^230 /m);
  return connection;
}

export const applications: Application[] = [
  {
    name: 'vsftpd, logged-in session',
    packages: ['vsftpd'],
    units: ['vsftpd.service'],
    changed:
      'vsftpd.conf has isolate=NO and isolate_network=NO: with PID, IPC and network namespaces of its own a session can’t be dumped by CRIU.',
    async prepare(vm) {
      await vm.shell(
        'grep -q isolate= /etc/vsftpd.conf || printf "isolate=NO\\nisolate_network=NO\\n" >> /etc/vsftpd.conf',
      );
      await vm.shell(`id ${USER} || useradd --create-home --shell /bin/bash ${USER}`);
      await vm.shell(`echo ${USER}:${PASSWORD} | chpasswd`);
      await vm.shell(`echo hello > /home/${USER}/greeting`);
    },
    async connect(net) {
      const connection = await logIn(net);
      return {
        connection,
        probe: async () => void (await connection.ask('NOOP\r\n', /^200 /m)),
        request: async () => void (await connection.ask('SIZE greeting\r\n', /^213 6\r/m)),
        close: () => connection.close(),
      };
    },
    async visit(net) {
      const connection = await logIn(net);
      await connection.ask('PWD\r\n', /^257 /m);
      await connection.ask('QUIT\r\n', /^221 /m);
      await connection.close();
    },
  },
];
