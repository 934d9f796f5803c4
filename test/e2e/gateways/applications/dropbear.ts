/** dropbear, the small ssh server. Debian trixie has the program (dropbear-bin) and no unit: this one is as upstream's README suggests. */
import type { Application, ClientNetwork } from '../application.ts';
import { shellSession } from '../shell.ts';

const PORT = 2222;
const UNIT = `[Unit]
Description=Dropbear SSH server
After=network.target

[Service]
ExecStart=/usr/sbin/dropbear -F -R -p ${PORT}

[Install]
WantedBy=multi-user.target
`;

/** A new host key each time, so no known one; the client's is the lab's. */
function ssh(net: ClientNetwork, ...more: string[]): string[] {
  const anyHost = [
    '-o',
    'StrictHostKeyChecking=no',
    '-o',
    'UserKnownHostsFile=/dev/null',
    '-o',
    'LogLevel=ERROR',
  ];
  const keepAlive = ['-o', 'TCPKeepAlive=yes', '-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=30'];
  return [
    'ssh',
    ...anyHost,
    ...net.sshOptions,
    ...keepAlive,
    '-p',
    `${PORT}`,
    ...more,
    `root@${net.address}`,
  ];
}

export const applications: Application[] = [
  {
    name: 'dropbear, pty with a shell',
    packages: ['dropbear-bin'],
    units: ['dropbear.service'],
    listens: [`tcp/${PORT}`],
    changed: 'Debian 13 ships no unit for dropbear; the test has one of three lines.',
    async prepare(vm) {
      await vm.write('/etc/systemd/system/dropbear.service', UNIT);
      await vm.run('mkdir', '-p', '/etc/dropbear');
      await vm.run('systemctl', 'daemon-reload');
    },
    connect: (net) => shellSession(net.start(ssh(net, '-tt'))),
    async visit(net) {
      const argv = ssh(net);
      const answer = await net.run([...argv, 'echo served by $(hostname)']);
      if (!answer.includes('served by vm1')) throw new Error(`Expected the command's output, got ${answer}`);
    },
  },
];
