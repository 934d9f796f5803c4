import { describe, expect, it } from 'vitest';
import { gatewaySet } from '../../../vm-agent/gateway/closure.ts';
import { AGENT, guest, listening, OPTIONS, type ProcessSketch, unix } from './guest.ts';

const SSHD: ProcessSketch = { pid: 200, program: 'sshd', fds: ['socket:[1]'] };
const PORT_22 = { 1: listening(22) };

function pids(...given: Parameters<typeof guest>): number[] {
  return [...gatewaySet(guest(...given), OPTIONS).members.keys()].sort((a, b) => a - b);
}

describe('the gateway set', () => {
  it('is empty where nothing listens', () => {
    expect(pids([{ pid: 200 }])).toEqual([]);
  });

  it('starts at what listens on all or on a production address, over TCP or UDP', () => {
    const sockets = { 1: listening(22), 2: listening(53, '10.0.0.11', 'udp'), 3: listening(80, '::') };
    const processes = [SSHD, { pid: 201, fds: ['socket:[2]'] }, { pid: 202, fds: ['socket:[3]'] }];
    expect(pids(processes, sockets)).toEqual([200, 201, 202]);
  });

  it('leaves alone what listens on loopback or on the management address only', () => {
    const sockets = {
      1: listening(25, '127.0.0.1'),
      2: listening(7443, '10.1.0.11'),
      3: listening(25, '::1'),
    };
    const processes = [1, 2, 3].map((inode) => ({ pid: 200 + inode, fds: [`socket:[${inode}]`] }));
    expect(pids(processes, sockets)).toEqual([]);
  });

  it('takes in the programs that the policy names, by as much of their names as the kernel keeps', () => {
    const processes = [SSHD, { pid: 220, program: 'a-worker-with-a' }, { pid: 221, program: 'other' }];
    const options = { ...OPTIONS, programs: ['a-worker-with-a-long-name'] };
    const { members } = gatewaySet(guest(processes, PORT_22), options);
    expect([...members]).toEqual([
      [200, 'listens on tcp 0.0.0.0:22'],
      [220, 'is a-worker-with-a, which the policy names'],
    ]);
    expect(pids(processes, PORT_22)).toEqual([200]);
  });

  it('takes in children, their children, and says why', () => {
    const processes = [SSHD, { pid: 210, program: 'sshd-session', parent: 200 }, { pid: 211, parent: 210 }];
    const { members } = gatewaySet(guest(processes, PORT_22), OPTIONS);
    expect(members.get(200)).toBe('listens on tcp 0.0.0.0:22');
    expect(members.get(210)).toBe('child of sshd[200]');
    expect(members.get(211)).toBe('child of sshd-session[210]');
  });

  it('takes in a parent, and through it what else it has started', () => {
    const processes = [
      { pid: 300, program: 'supervisor' },
      { ...SSHD, parent: 300 },
      { pid: 301, parent: 300 },
    ];
    expect(pids(processes, PORT_22)).toEqual([200, 300, 301]);
  });

  it('takes in the whole session, since CRIU refuses a leader outside', () => {
    const processes = [SSHD, { pid: 210, parent: 200 }, { pid: 220, parent: 1, session: 210 }];
    expect(pids(processes, PORT_22)).toEqual([200, 210, 220]);
  });

  it('takes in who has the other end of a pipe, of a socket pair and of a pty', () => {
    const sockets = { ...PORT_22, 5: unix(6), 6: unix(5) };
    const processes: ProcessSketch[] = [
      { ...SSHD, fds: ['socket:[1]', 'pipe:[9]', 'socket:[5]', { target: '/dev/ptmx', terminal: 3 }] },
      { pid: 301, fds: ['pipe:[9]'] },
      { pid: 302, fds: ['socket:[6]'] },
      { pid: 303, fds: ['/dev/pts/3'] },
      { pid: 304, fds: ['/dev/pts/4', 'pipe:[10]'] },
    ];
    expect(pids(processes, sockets)).toEqual([200, 301, 302, 303]);
  });

  it('follows links until nothing new turns up', () => {
    const chain = [...Array(20).keys()].map((index) => ({
      pid: 300 + index,
      fds: [`pipe:[${index}]`, `pipe:[${index + 1}]`],
    }));
    const processes = [{ ...SSHD, fds: ['socket:[1]', 'pipe:[20]'] }, ...chain];
    expect(pids(processes, PORT_22)).toHaveLength(21);
  });

  it('never takes in systemd, journald, a login prompt, a DHCP client or this agent', () => {
    const sockets = {
      ...PORT_22,
      2: listening(68, '0.0.0.0', 'udp'),
      5: unix(6),
      6: unix(5),
      7: listening(7443),
    };
    const processes: ProcessSketch[] = [
      { ...SSHD, fds: ['socket:[1]', 'socket:[5]', 'pipe:[9]'] },
      { pid: 1, program: 'systemd', parent: 0, unit: 'init.scope', fds: ['pipe:[9]'] },
      { pid: 50, program: 'systemd-journal', unit: 'systemd-journald.service', fds: ['socket:[6]'] },
      { pid: 60, program: 'dhclient', unit: 'networking.service', fds: ['socket:[2]'] },
      { pid: 61, program: 'agetty', unit: 'getty@tty1.service', fds: ['pipe:[9]'] },
      { pid: AGENT, program: 'node', unit: 'seamless-vm-agent.service', fds: ['socket:[7]'] },
      { pid: 91, program: 'stand-ins', parent: AGENT, unit: 'sshd.service' },
    ];
    expect(pids(processes, sockets)).toEqual([200]);
  });

  it('makes one tree per service, the root first', () => {
    const sockets = { ...PORT_22, 2: listening(80) };
    const processes = [
      SSHD,
      { pid: 150, parent: 200 },
      { pid: 400, program: 'apache2', fds: ['socket:[2]'] },
      { pid: 401, parent: 400, fds: ['socket:[2]'] },
    ];
    expect(gatewaySet(guest(processes, sockets), OPTIONS).trees).toEqual([
      { root: 200, members: [200, 150] },
      { root: 400, members: [400, 401] },
    ]);
  });

  it('is the same whatever the order of the processes', () => {
    const sockets = { ...PORT_22, 5: unix(6), 6: unix(5) };
    const processes: ProcessSketch[] = [
      { ...SSHD, fds: ['socket:[1]', 'socket:[5]'] },
      { pid: 301, fds: ['socket:[6]', 'pipe:[1]'] },
      { pid: 302, parent: 301 },
      { pid: 303, session: 302 },
      { pid: 304, fds: ['pipe:[1]'] },
      { pid: 305, fds: ['pipe:[2]'] },
    ];
    const expected = pids(processes, sockets);
    for (let turn = 1; turn < processes.length; turn += 1) {
      const turned = [...processes.slice(turn), ...processes.slice(0, turn)];
      expect(pids(turned, sockets)).toEqual(expected);
      expect(pids([...turned].reverse(), sockets)).toEqual(expected);
    }
  });
});
