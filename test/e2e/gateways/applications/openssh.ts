/** OpenSSH as sessions are held for days: nothing but the connection, a shell at its prompt, an sftp client. */
import type { Application, ClientNetwork, Session } from '../application.ts';
import { shellSession } from '../shell.ts';

const KEEP_ALIVE = ['-o', 'TCPKeepAlive=yes', '-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=30'];
const CONTROL = '/tmp/seamless-e2e-%p-%r';

const ssh = (net: ClientNetwork, ...more: string[]) => ['ssh', ...net.sshOptions, ...KEEP_ALIVE, ...more];

async function visit(net: ClientNetwork): Promise<void> {
  const answer = await net.run(ssh(net, `root@${net.address}`, 'echo served by $(hostname)'));
  if (!answer.includes('served by vm1')) throw new Error(`Expected the command's output, got ${answer}`);
}

const common = { packages: [], units: ['ssh.service'], visit };

export const applications: Application[] = [
  {
    ...common,
    name: 'OpenSSH, idle `-N` session',
    async connect(net): Promise<Session> {
      // A master that others may share the connection of: that is how it is asked for something later.
      const master = ['-M', '-S', CONTROL, '-N', '-v', `root@${net.address}`];
      const connection = net.start(ssh(net, ...master));
      await connection.expect(/Entering interactive session/);
      return {
        connection,
        async request() {
          const answer = await net.run(
            ssh(net, '-S', CONTROL, `root@${net.address}`, 'echo over the old one'),
          );
          if (answer !== 'over the old one') throw new Error(`Expected the command's output, got ${answer}`);
        },
        close: () => connection.close(),
      };
    },
  },
  {
    ...common,
    name: 'OpenSSH, pty with a shell',
    connect: (net) => shellSession(net.start(ssh(net, '-tt', `root@${net.address}`))),
  },
  {
    ...common,
    name: 'OpenSSH, sftp session',
    async connect(net): Promise<Session> {
      const connection = net.start(['sftp', '-q', ...net.sshOptions, ...KEEP_ALIVE, `root@${net.address}`]);
      await connection.ask('pwd\n', /Remote working directory: \/root/);
      return {
        connection,
        request: async () => void (await connection.ask('ls -1 /etc/hostname\n', /^\/etc\/hostname/m)),
        close: () => connection.close(),
      };
    },
  },
];
