import { expect, test } from 'vitest';
import type { Listener } from '../../../criu/manifest.ts';
import { connectionChains, connectionPlan, connectionRules } from '../../../sink-agent/connections.ts';

const listener = (port: number, protocol: 'tcp' | 'udp' = 'tcp'): Listener => ({
  ...{ protocol, address: '0.0.0.0', port, pid: 1, program: 'server' },
});
const listeners = [listener(80), listener(22), listener(22), listener(53, 'udp')];
const policy = { acceptPorts: [80, 443], healthChecks: ['10.0.0.5', 'fd00::/64'] };

test('only ports at which somebody listens are gated, and checks get a port that nobody has', () => {
  expect(connectionPlan(policy, { listeners: [...listeners, listener(61_000)] })).toEqual({
    gatedPorts: [80],
    listening: [22, 80, 61_000],
    sources: ['10.0.0.5', 'fd00::/64'],
    checkPort: 61_001,
  });
});

test('without listed sources there is no check port and no address translation', () => {
  const plan = connectionPlan({ ...policy, healthChecks: [] }, { listeners });
  expect(connectionRules(4, 'eth0', plan)).toEqual([
    '*mangle',
    '-A INPUT -i eth0 -p tcp --syn --dport 80 -j NFQUEUE --queue-num 0',
    '-A OUTPUT -o eth0 -p tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK -m mark ! --mark 0x5ea1 --sport 80 -j NFQUEUE --queue-num 0',
    'COMMIT',
  ]);
});

test('each family redirects its own sources, to every listening port, and the port is closed to all others', () => {
  const plan = connectionPlan(policy, { listeners });
  const [v4, v6] = ([4, 6] as const).map((family) => connectionRules(family, 'eth0', plan));
  const translation = (source: string) => [
    `-A PREROUTING -i eth0 -p tcp --syn -s ${source} -j checks`,
    '-A checks -p tcp --dport 22 -j REDIRECT --to-ports 61000',
    '-A checks -p tcp --dport 80 -j REDIRECT --to-ports 61000',
  ];
  expect(v4).toEqual(expect.arrayContaining(translation('10.0.0.5')));
  expect(v6).toEqual(expect.arrayContaining(translation('fd00::/64')));
  for (const rules of [v4, v6]) {
    expect(rules).toContain(
      '-A INPUT -i eth0 -p tcp --syn --dport 61000 -m conntrack ! --ctstate DNAT -j REJECT --reject-with tcp-reset',
    );
    expect(rules?.filter((rule) => rule.includes('-s '))).toHaveLength(1);
  }
});

test('for nft one table has both families, and what is put there again takes the place of what was', () => {
  const syn = 'iifname "eth0" tcp flags & (fin | syn | rst | ack) == syn';
  const gates = connectionChains('eth0', connectionPlan({ ...policy, healthChecks: [] }, { listeners }));
  expect(gates).toContain(`add rule inet seamless entering ${syn} tcp dport 80 queue num 0`);
  expect(gates.join('\n')).not.toMatch(/redirect|reject/);
  const all = connectionChains('eth0', connectionPlan(policy, { listeners }));
  expect(all).toEqual(
    expect.arrayContaining([
      `add rule inet seamless translating ${syn} ip saddr 10.0.0.5 jump checks`,
      `add rule inet seamless translating ${syn} ip6 saddr fd00::/64 jump checks`,
      'add rule inet seamless checks tcp dport 22 redirect to :61000',
      `add rule inet seamless closing ${syn} tcp dport 61000 ct status & dnat != dnat reject with tcp reset`,
    ]),
  );
  const chains = all.flatMap((line) => /^add chain inet seamless (\S+)/.exec(line)?.[1] ?? []);
  for (const chain of chains) expect(all).toContain(`flush chain inet seamless ${chain}`);
});
