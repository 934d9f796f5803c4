/** From the VM's files to the sink's tree: what a profile's paths look like is the same on both sides. */
import { readFileSync, readlinkSync } from 'node:fs';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import type { AllowedCall } from '../../../criu/answers.ts';
import { answeredPaths } from '../../../criu/answers.ts';
import { filterLines, placeAnswers, realFolder } from '../../../sink-agent/restore/answers.ts';
import { placeFiles } from '../../../sink-agent/restore/dummy-files.ts';
import { answeredFiles, withAnswered } from '../../../vm-agent/checkpoint/answered-files.ts';

let vm: string;
let sink: string;

beforeEach(async () => {
  vm = await mkdtemp(join(tmpdir(), 'slf-vm-'));
  sink = await mkdtemp(join(tmpdir(), 'slf-sink-'));
  onTestFinished(async () => {
    for (const folder of [vm, sink]) await rm(folder, { recursive: true });
  });
});

const open = (path: string): AllowedCall => ({ program: 'java', effect: 'open', path });
const stat = (path: string): AllowedCall => ({ program: 'java', effect: 'stat', path });

/** As park does it. */
async function carry(allow: AllowedCall[]) {
  const files = withAnswered([], answeredFiles(answeredPaths(allow), vm));
  await placeFiles(sink, files);
  await placeAnswers(sink, files, allow);
  return files;
}

/** What a program can tell of a path. */
async function look(root: string, path: string) {
  const stats = await lstat(join(root, path), { bigint: true }).catch(() => null);
  if (!stats) return null;
  const { mode, uid, gid, size, mtimeNs } = stats;
  if (stats.isSymbolicLink()) return { uid, gid, mtimeNs, target: readlinkSync(join(root, path)) };
  return { mode, uid, gid, mtimeNs, size: stats.isFile() ? size : null };
}

test('a file is there with its content, mode, owner and time to the nanosecond, and so are the folder and links on the way', async () => {
  await mkdir(join(vm, 'etc/tomcat'), { recursive: true });
  await mkdir(join(vm, 'var'));
  await writeFile(join(vm, 'etc/tomcat/server.xml'), '<Server/>', { mode: 0o640 });
  await exec(['touch', '-d', '@1700000000.123456789', join(vm, 'etc/tomcat/server.xml')]);
  await exec(['touch', '-d', '@1600000000.5', join(vm, 'etc/tomcat')]);
  await symlink('../etc/tomcat', join(vm, 'var/conf'));
  await carry([open('/var/conf/*.xml'), stat('/var/conf')]);
  expect(readFileSync(join(sink, 'var/conf/server.xml'), 'utf8')).toBe('<Server/>');
  for (const path of ['var/conf', 'etc/tomcat/server.xml'])
    expect(await look(sink, path), path).toEqual(await look(vm, path));
});

test('a folder that is asked about has the VM’s time, whatever was made in it', async () => {
  await mkdir(join(vm, 'webapps'));
  await writeFile(join(vm, 'webapps/a.war'), 'x');
  await chmod(join(vm, 'webapps'), 0o750);
  await utimes(join(vm, 'webapps'), 1_500_000_000, 1_500_000_000);
  await mkdir(join(sink, 'webapps'));
  await carry([stat('/webapps'), stat('/webapps/*')]);
  expect(await look(sink, 'webapps')).toEqual(await look(vm, 'webapps'));
  expect(await look(sink, 'webapps/a.war')).toEqual(await look(vm, 'webapps/a.war'));
});

test('what the VM lacks the sink lacks too, even when the template has it', async () => {
  await mkdir(join(vm, 'etc'));
  await mkdir(join(sink, 'etc'));
  for (const name of ['gone.conf', 'app-a', 'app-b', '.app-hidden', 'other'])
    await writeFile(join(sink, 'etc', name), '');
  await writeFile(join(vm, 'etc/app-b'), '');
  await carry([stat('/etc/gone.conf'), stat('/etc/app-*'), stat('/nowhere/at/all')]);
  expect((await readdir(join(sink, 'etc'))).sort()).toEqual(['.app-hidden', 'app-b', 'other']);
});

test('a file too large to be carried can be looked at but not opened', async () => {
  await writeFile(join(vm, 'small'), 'x');
  await writeFile(join(vm, 'large'), '');
  await truncate(join(vm, 'large'), 300_000);
  const files = await carry([open('/*')]);
  expect((await lstat(join(sink, 'large'))).size).toBe(300_000);
  const lines = filterLines([open('/*')], files)
    .trim()
    .split('\n');
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    open('/*'),
    { program: 'java', effect: 'deny', path: '/large' },
  ]);
});

test('a name that the filter’s file can’t have is denied with a wildcard', () => {
  const file = {
    type: 'file',
    mode: 0,
    uid: 0,
    gid: 0,
    size: 9,
    mtime: 0,
    executable: false,
    answered: true,
  } as const;
  expect(filterLines([open('/*')], [{ ...file, path: '/a"b\n' }])).toContain('"path":"/a?b?"');
  expect(filterLines([], [])).toBe('');
});

test('what is held as well stays held', () => {
  const file = { type: 'file', mode: 0, uid: 0, gid: 0, size: 9, mtime: 0, executable: true } as const;
  const [both] = withAnswered(
    [{ ...file, path: '/a' }],
    [{ ...file, path: '/a', executable: false, answered: true, content: 'eA==' }],
  );
  expect(both).toMatchObject({ executable: true, answered: true, content: 'eA==' });
});

test('a socket or FIFO can’t be answered for, and says so', async () => {
  await exec(['mkfifo', join(vm, 'queue')]);
  expect(() => answeredFiles([{ path: '/queue', open: false }], vm)).toThrow(/neither a file nor a folder/);
});

test('a manifest that puts a link where it wants a file written does not get it written', async () => {
  const outside = join(vm, 'outside');
  await writeFile(outside, 'precious');
  const file = { mode: 0o644, uid: 0, gid: 0, size: 9, mtime: 0, executable: false, answered: true } as const;
  const files = [
    { ...file, path: '/x', type: 'symlink', target: outside },
    { ...file, path: '/x', type: 'file', content: 'eA==' },
  ] as const;
  await placeFiles(sink, files);
  await expect(placeAnswers(sink, files, [open('/x')])).rejects.toMatchObject({ code: 'RESTORE_FAILED' });
  expect(readFileSync(outside, 'utf8')).toBe('precious');
});

test('links in a circle are an end, not a hang', async () => {
  await symlink('b', join(vm, 'a'));
  await symlink('a', join(vm, 'b'));
  expect(
    answeredFiles([{ path: '/a/x', open: true }], vm)
      .map(({ path }) => path)
      .sort(),
  ).toEqual(['/a', '/b']);
  const links = new Map([
    ['/v', { target: 'w/x' }],
    ['/w', { target: '/y' }],
  ]) as never;
  expect(realFolder('/v/z', links)).toBe('/y/x/z');
});
