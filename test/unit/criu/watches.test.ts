import { expect, it } from 'vitest';
import { watchedPaths } from '../../../criu/watches.ts';

const field = (number: number, content: Buffer | string): Buffer => {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
};
const number = (field: number, value: number): Buffer => Buffer.from([field * 8, value]);
const entry = (content: Buffer): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(content.length);
  return Buffer.concat([length, content]);
};
/** An inotify descriptor with a watch on each of `paths`, as files.img has it. */
const inotify = (...paths: string[]): Buffer => {
  const watches = paths.map((path) =>
    field(
      5,
      Buffer.concat([number(1, 9), number(6, 1), field(7, Buffer.concat([number(1, 8), field(4, path)]))]),
    ),
  );
  return entry(
    Buffer.concat([number(1, 6), number(2, 3), field(13, Buffer.concat([number(1, 3), ...watches]))]),
  );
};
const HEADER = Buffer.alloc(8);

it('names what is watched by inotify, each path once, from the files of an image', () => {
  const regular = entry(Buffer.concat([number(1, 1), field(3, field(7, '/var/log/daemon.log'))]));
  const image = Buffer.concat([
    HEADER,
    regular,
    inotify('/etc/dnsmasq.d', 'run/x\0'),
    inotify('/etc/dnsmasq.d'),
  ]);
  expect(watchedPaths(image)).toEqual(['/etc/dnsmasq.d', '/run/x']);
});

it('names nothing for an image without watches, or one that is cut off', () => {
  expect(watchedPaths(Buffer.concat([HEADER, entry(number(1, 1))]))).toEqual([]);
  expect(watchedPaths(inotify('/etc').subarray(0, 9))).toEqual([]);
  expect(watchedPaths(Buffer.alloc(0))).toEqual([]);
});
