import { expect, test } from 'vitest';
import { silenceMatches, silenceRules } from '../../../sink-agent/sandbox/resets.ts';

const local = { address: '10.0.0.11', port: 80 };

test('a sink is silent about connections that the VM’s kernel still has, each by its family', () => {
  const lingering = [
    { local, remote: { address: '10.0.0.5', port: 4000 } },
    { local: { ...local, address: 'fd00::11' }, remote: { address: 'fd00::5', port: 4001 } },
  ];
  expect(silenceRules(lingering, 4)).toEqual([
    '-A resets -p tcp --sport 80 -d 10.0.0.5 --dport 4000 -j DROP',
  ]);
  expect(silenceRules(lingering, 6)).toEqual(['-A resets -p tcp --sport 80 -d fd00::5 --dport 4001 -j DROP']);
  expect(silenceMatches(lingering)).toEqual([
    'ip daddr 10.0.0.5 tcp sport 80 tcp dport 4000 drop',
    'ip6 daddr fd00::5 tcp sport 80 tcp dport 4001 drop',
  ]);
});
