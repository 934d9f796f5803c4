import { expect, test } from 'vitest';
import type { HeldFile, ProcessTree } from '../../../criu/manifest.ts';
import { standIns } from '../../../sink-agent/restore/stand-ins.ts';

const TREE: ProcessTree = {
  ...{ folder: 'ssh', root: 412, processes: [], namespaces: [] },
  externals: [
    {
      kind: 'journal-stream',
      owner: 'ssh.service',
      dumpKey: 'unix[7]',
      restoreKey: 'socket:[7]',
      descriptors: [],
    },
    { kind: 'session-fifo', owner: '3', dumpKey: 'file[1a:2b]', restoreKey: 'file[1a:2b]', descriptors: [] },
    { kind: 'device', owner: '/dev/null', dumpKey: 'file[1c:4]', restoreKey: 'file[1c:4]', descriptors: [] },
  ],
};

test('each end that stayed in the VM gets a stand-in under the number that CRIU is told', () => {
  const socket = { path: '/run/systemd/journal/dev-log', type: 'socket' } as HeldFile;
  expect(standIns(TREE, [socket])).toEqual({
    ends: ['stream:200', 'fifo:201:412-1', 'device:202:/dev/null', 'dgram:/run/systemd/journal/dev-log'],
    inherit: [
      { fd: 200, key: 'socket:[7]' },
      { fd: 201, key: 'file[1a:2b]' },
      { fd: 202, key: 'file[1c:4]' },
    ],
  });
});
