import { describe, expect, it } from 'vitest';
import { gatewaysText } from '../../../../orchestrator/cli/render-gateways.ts';
import type { GatewayScan } from '../../../../vm-agent/api.ts';

const LISTENER = { protocol: 'tcp' as const, address: '0.0.0.0', port: 22, pid: 412, program: 'sshd' };
const SCAN: GatewayScan = {
  imageBytes: 12.4 * 2 ** 20,
  listeners: [LISTENER, { ...LISTENER, address: '::' }],
  processes: [
    { pid: 412, parent: 1, program: 'sshd', unit: 'ssh.service', because: 'listens on tcp 0.0.0.0:22' },
    {
      pid: 810,
      parent: 412,
      program: 'sshd-session',
      unit: 'session-3.scope',
      because: 'child of sshd[412]',
    },
    {
      pid: 815,
      parent: 810,
      program: 'bash',
      unit: 'session-3.scope',
      because: 'child of sshd-session[810]',
    },
    {
      pid: 820,
      parent: 412,
      program: 'sshd-session',
      unit: 'session-4.scope',
      because: 'child of sshd[412]',
    },
    { pid: 500, parent: 1, program: 'echo', unit: 'echo.service', because: 'listens on tcp 0.0.0.0:7' },
  ],
  refusals: [],
};

describe('the gateways of a VM', () => {
  it('are printed as a tree, with the unit where it changes, and why each belongs', () => {
    expect(gatewaysText(SCAN)).toBe(
      [
        'Gateway processes: 5 in 2 trees, an image of about 13 MiB',
        'sshd[412]  ssh.service  (listens on tcp 0.0.0.0:22)',
        '├─ sshd-session[810]  session-3.scope  (child of sshd[412])',
        '│  └─ bash[815]  (child of sshd-session[810])',
        '└─ sshd-session[820]  session-4.scope  (child of sshd[412])',
        'echo[500]  echo.service  (listens on tcp 0.0.0.0:7)',
        'Listening:',
        '  tcp 0.0.0.0:22  sshd[412]',
        '  tcp [::]:22  sshd[412]',
        'Can be parked.',
      ].join('\n'),
    );
  });

  it('have each reason against parking once, with who it is about, the descriptor and the remedy', () => {
    const shared = { rule: 'mapped-file', descriptor: '/var/x', reason: 'it maps it', remedy: 'Don’t.' };
    const refusals = [
      ...[412, 810, 815, 820].map((pid) => ({ ...shared, pid, program: 'sshd' })),
      { ...shared, rule: 'raw-socket', descriptor: '5 → socket:[9]', pid: 500, program: 'echo' },
    ];
    expect(
      gatewaysText({ ...SCAN, refusals })
        .split('\n')
        .slice(-5),
    ).toEqual([
      'Can’t be parked, for 2 reasons:',
      '  sshd[412], sshd[810], sshd[815] and 1 more, /var/x: it maps it (mapped-file)',
      '    → Don’t.',
      '  echo[500], 5 → socket:[9]: it maps it (raw-socket)',
      '    → Don’t.',
    ]);
  });

  it('may be none', () => {
    expect(gatewaysText({ processes: [], listeners: [], refusals: [], imageBytes: 0 })).toBe(
      'No process listens on the production network: nothing would answer for the VM.',
    );
  });
});
