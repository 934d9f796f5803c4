/**
 * One small server under the sandboxing that systemd units use: namespaces of their own, other users, capabilities, seccomp.
 * What an application does is not the point here but where systemd has put it.
 */
import type { Application, Session } from '../application.ts';

const PORT = 7070;
const PROGRAM = '/usr/local/sbin/line-server';

/** Answers `memory` from memory, and `file` from a file it opens; says each line that it can't read on its standard error, to the journal. */
const SERVER = `#!/usr/bin/perl
use strict; use warnings; use IO::Socket::INET; use IO::Select;
my $listener = IO::Socket::INET->new(LocalPort => ${PORT}, Listen => 16, ReuseAddr => 1) or die "listen: $!";
my $select = IO::Select->new($listener);
while (my @ready = $select->can_read) {
    for my $from (@ready) {
        if ($from == $listener) { $select->add(scalar $listener->accept); next }
        my $line; unless (sysread($from, $line, 4096)) { $select->remove($from); close $from; next }
        if ($line =~ /^memory/) { syswrite($from, "from memory\\n"); next }
        if ($line =~ /^file/) { open(my $file, '<', '/etc/hostname') or warn $!; syswrite($from, 'file: ' . <$file>); next }
        print STDERR "heard: $line"; syswrite($from, "said\\n");
    }
}
`;

const SANDBOXES: Readonly<Record<string, readonly string[]>> = {
  'no sandbox': [],
  PrivateTmp: ['PrivateTmp=yes'],
  'ProtectSystem=strict, PrivateTmp, PrivateDevices': [
    'ProtectSystem=strict',
    'ProtectHome=yes',
    'PrivateTmp=yes',
    'PrivateDevices=yes',
    'StateDirectory=line-server',
    'RuntimeDirectory=line-server',
  ],
  'ProtectHostname and the Protect… of the kernel': [
    'ProtectHostname=yes',
    'ProtectKernelTunables=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelLogs=yes',
    'ProtectControlGroups=yes',
    'ProtectClock=yes',
    'ProtectProc=invisible',
  ],
  DynamicUser: ['DynamicUser=yes'],
  'PrivateUsers and PrivateIPC, which the template takes back': [
    'User=nobody',
    'PrivateUsers=yes',
    'PrivateIPC=yes',
  ],
  'other user, ambient capability': [
    'User=nobody',
    'AmbientCapabilities=CAP_NET_BIND_SERVICE',
    'NoNewPrivileges=yes',
  ],
  'seccomp filters': [
    'User=nobody',
    'SystemCallFilter=@system-service',
    'MemoryDenyWriteExecute=yes',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6',
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'LockPersonality=yes',
    'NoNewPrivileges=yes',
  ],
};

function unit(options: readonly string[]): string {
  return `[Unit]\nDescription=Line server\n\n[Service]\nExecStart=${PROGRAM}\n${options.join('\n')}\n`;
}

export const applications: Application[] = Object.entries(SANDBOXES).map(([name, options]) => ({
  name: `a small server, ${name}`,
  packages: [],
  units: ['line-server.service'],
  listens: [`tcp/${PORT}`],
  async prepare(vm) {
    await vm.write(PROGRAM, SERVER, '755');
    await vm.write('/etc/systemd/system/line-server.service', unit(options));
    await vm.run('systemctl', 'daemon-reload');
  },
  async connect(net): Promise<Session> {
    const connection = net.tcp(PORT);
    await connection.ask('memory\n', /from memory\n/);
    let said = 0;
    return {
      connection,
      probe: async () => void (await connection.ask('memory\n', /from memory\n/)),
      // By the journal first: its stream must work again when the VM is back.
      async request() {
        await connection.ask(`line ${++said}\n`, /said\n/);
        await connection.ask('file\n', /file: vm1\n/);
      },
      close: () => connection.close(),
    };
  },
  async visit(net) {
    const connection = net.tcp(PORT);
    await connection.ask('file\n', /file: vm1\n/);
    await connection.close();
  },
}));
