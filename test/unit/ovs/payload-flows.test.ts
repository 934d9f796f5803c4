import { expect, test } from 'vitest';
import { decodeActions, encodeActions } from '../../../ovs/openflow/actions.ts';
import { decodeMatch, encodeMatch } from '../../../ovs/openflow/match.ts';
import { COUNTERS, counterFlows, payloadBytes, trivialFlows } from '../../../ovs/payload-flows.ts';

const VM = { vmName: 'vm1', mac: '52:54:00:00:00:02', healthChecks: ['10.0.0.5', 'fd00:1::/64'] };
const all = [...counterFlows(VM), ...trivialFlows(VM)];

test('a VM has a counter for each of TCP and UDP, IPv4 and IPv6, to it and from it', () => {
  expect(counterFlows(VM)).toHaveLength(COUNTERS);
  expect(new Set(counterFlows(VM).map(({ match }) => JSON.stringify(match))).size).toBe(COUNTERS);
});

test('every flow only marks the packet and sends it on, and meets no packet that bears its mark', () => {
  for (const { match, actions } of all) {
    const bit = match.ethDst === VM.mac ? 0 : 1;
    expect(actions).toEqual([{ type: 'mark', bit }, { type: 'again' }]);
    expect(match.unmarked).toBe(bit);
    expect(bit === 0 ? match.ethDst : match.ethSrc).toBe(VM.mac);
  }
});

test('what is trivial by name outranks every counter: DHCP, and health checks in both directions', () => {
  const lowest = Math.min(...trivialFlows(VM).map(({ priority }) => priority));
  for (const { priority } of counterFlows(VM)) expect(priority).toBeLessThan(lowest);
  const peers = trivialFlows(VM).flatMap(({ match }) => [
    match.ipv4Src ?? match.ipv4Dst ?? match.ipv6Src ?? match.ipv6Dst ?? [],
  ]);
  expect(peers.flat()).toEqual(['10.0.0.5', 'fd00:1::/64', '10.0.0.5', 'fd00:1::/64']);
});

test('marks are written as Open vSwitch reads them, and read back', () => {
  for (const { match, actions } of all) {
    expect(decodeActions(encodeActions(actions))).toEqual(actions);
    expect(decodeMatch(encodeMatch(match)).match).toEqual(match);
  }
});

test('payload is what is left of a packet without its headers, never less than nothing', () => {
  const [tcp4] = counterFlows(VM);
  // Two segments with timestamps (12 bytes), of 100 bytes.
  expect(payloadBytes(tcp4?.priority ?? 0, 2, 2 * (14 + 20 + 20 + 12 + 100))).toBe(224);
  expect(payloadBytes(tcp4?.priority ?? 0, 3, 60)).toBe(0);
});
