import { describe, expect, it } from 'vitest';
import { assertSupported, atLeast, dumpArguments, restoreArguments } from '../../../criu/arguments.ts';

describe('the table of CRIU arguments', () => {
  it('makes a dump that leaves cgroups and the network lock to us', () => {
    const args = dumpArguments('4.2.1', { root: 193, folder: '/images/a/tree-193', externals: ['unix[17]'] });
    expect(args.slice(0, 5)).toEqual(['dump', '--tree', '193', '--images-dir', '/images/a/tree-193']);
    expect(args).toContain('--tcp-established');
    expect(args).toContain('--manage-cgroups=ignore');
    expect(args).toContain('--network-lock=skip');
    expect(args.slice(-2)).toEqual(['--external', 'unix[17]']);
  });

  it('makes a restore with the same options, but for the lock, which a restore does not know', () => {
    const args = restoreArguments('4.2.1', { folder: '/images/a', inherit: [] });
    expect(args).toContain('--tcp-established');
    expect(args).toContain('--restore-detached');
    expect(args).not.toContain('--network-lock=skip');
  });

  it('names each inherited descriptor by its number and the end that it stands for', () => {
    const inherit = [
      { fd: 3, key: 'socket:[17]' },
      { fd: 4, key: 'file[4b:af]' },
    ];
    const args = restoreArguments('4.2.1', { folder: '/images/a', inherit });
    expect(args.slice(-4)).toEqual([
      '--inherit-fd',
      'fd[3]:socket:[17]',
      '--inherit-fd',
      'fd[4]:file[4b:af]',
    ]);
  });

  it('leaves out what a version does not know yet', () => {
    const args = dumpArguments('3.16', { root: 1, folder: '/', externals: [] });
    expect(args).not.toContain('--network-lock=skip');
    expect(args).toContain('--tcp-established');
  });

  it('refuses a CRIU that fails on recent kernels, and says from where to get another', () => {
    expect(() => assertSupported('4.1.1')).toThrow(/Expected CRIU 4\.2 or later, got 4\.1\.1.*forky/);
    expect(() => assertSupported('4.2.1')).not.toThrow();
  });

  it.each([
    ['4.10', '4.2.1', true],
    ['4.2', '4.2.1', false],
    ['4.2.1', '4.2', true],
    ['5', '4.2', true],
    ['3.19', '4.2', false],
    ['nonsense', '4.2', false],
  ])('compares versions number by number: %s against %s', (version, minimum, expected) => {
    expect(atLeast(version, minimum)).toBe(expected);
  });
});
