import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readConfig } from '../../../vm-agent/config.ts';

function file(value: unknown): string {
  const folder = mkdtempSync(join(tmpdir(), 'vm-agent-config-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify(value));
  return path;
}

const GOOD = {
  vm: 'vm1',
  listen: { address: '10.78.0.11', port: 7443 },
  tls: { ca: '/ca', cert: '/cert', key: '/key' },
};

describe('the configuration', () => {
  it('is read as it is', () => {
    expect(readConfig(file(GOOD))).toEqual(GOOD);
  });

  it('is refused with all that is wrong with it at once', () => {
    const path = file({ listen: { address: '10.78.0.11', port: 'x' }, tls: GOOD.tls, colour: 'red' });
    expect(() => readConfig(path)).toThrow(/unknown key colour; vm: expected a name; listen: expected/);
  });

  it('must be there', () => {
    expect(() => readConfig('/nonexistent/config')).toThrow(/Expected JSON in \/nonexistent\/config/);
  });
});
