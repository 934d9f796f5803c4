/** `seamless init`: writes a configuration with comments, and the certificates of a fresh installation. Needs no orchestrator. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';

type Fail = (error: SeamlessError, options: { json?: boolean }) => void;

const USUAL = '/etc/seamless/seamless.yaml';

export function addInitCommand(cli: Command, fail: Fail): void {
  cli
    .command('init')
    .description('write a configuration to begin with, each key with its meaning')
    .option('--out <file>', 'where to; - prints it', USUAL)
    .option('--pki <folder>', 'and make a certificate authority there, with the orchestrator’s certificate')
    .option('--json', 'print JSON')
    .action(async ({ out, pki, json = false }: { out: string; pki?: string; json?: boolean }) => {
      try {
        // Loaded here: the schema would cost every other command time.
        const { commentedConfig } = await import('./commented-config.ts');
        if (pki) await (await import('../pki/authority.ts')).makeAuthority(pki);
        await write(out, commentedConfig(pki));
        if (out === '-') return;
        const next = 'Say in it what is there, start the orchestrator with it, then: seamless doctor';
        process.stdout.write(
          json ? `${JSON.stringify({ config: out, pki: pki ?? null })}\n` : `${out} was written. ${next}\n`,
        );
      } catch (thrown) {
        fail(asSeamlessError(thrown), { json });
      }
    });
}

async function write(out: string, text: string): Promise<void> {
  if (out === '-') return void process.stdout.write(text);
  if (existsSync(out)) {
    throw new SeamlessError('REQUEST_INVALID', `Expected no file at ${out} yet, got one; it is not touched`);
  }
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, text, { mode: 0o600, flag: 'wx' });
}
