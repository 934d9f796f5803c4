import { expect, test } from 'vitest';
import { portName, safeName } from '../../../sink-agent/names.ts';

test('a short VM name is in the port’s name as it is', () => {
  expect(portName('vm1')).toBe('sk-vm1');
  expect(portName('twelve-chars')).toBe('sk-twelve-chars');
});

test('a long VM name gives a port name that the kernel takes and that differs from others with the same start', () => {
  const [one, other] = [portName('a-rather-long-name-1'), portName('a-rather-long-name-2')];
  expect(one).toHaveLength(15);
  expect(one).toMatch(/^sk-a-rath-[0-9a-f]{6}$|^sk-a-rat-[0-9a-f]{6}$/);
  expect(other).not.toBe(one);
  expect(portName('a-rather-long-name-1')).toBe(one);
});

test.each(['', '..', '.hidden', 'a/b', 'a b', 'x'.repeat(65), 7, null])(
  '%j is no name for a part of a path',
  (value) => {
    expect(() => safeName('a VM name', value)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }));
  },
);
