/** `scripts/template build [--name N] [--include PKG,…] [--fresh] | list [--json] | path [NAME] | id [NAME]` */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { buildTemplate } from './build.ts';
import { cacheDirectory, listTemplates, readTemplate, templateDirectory } from './store.ts';

const USAGE = `Usage: scripts/template build [--name NAME] [--include PKG,…] [--fresh] [--json]
       scripts/template list [--json]
       scripts/template path|id [NAME]`;

async function main(): Promise<void> {
  const { values, positionals } = parseArguments();
  const [command, name = 'default', ...rest] = positionals;
  if (rest.length > 0) throw usage(`unexpected ${rest.join(' ')}`);
  const cache = cacheDirectory(process.env);
  switch (command) {
    case 'build': {
      const started = performance.now();
      const template = await buildTemplate({
        cache,
        name: values.name ?? name,
        include: (values.include ?? '').split(',').filter((entry) => entry !== ''),
        fresh: values.fresh === true,
        source: join(import.meta.dirname, '..'),
        report: (line) => process.stderr.write(`template: ${line}\n`),
      });
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      print(values.json ? JSON.stringify(template) : `${template.name} ${template.id} (${seconds} s)`);
      return;
    }
    case 'list': {
      const templates = await listTemplates(cache);
      if (values.json) return print(JSON.stringify(templates));
      for (const { name, id, packages, builtAt } of templates)
        print(`${name}\t${id.slice(0, 12)}\t${builtAt}\t${packages.join(',')}`);
      return;
    }
    case 'path':
      await readTemplate(cache, name);
      return print(templateDirectory(cache, name));
    case 'id':
      return print((await readTemplate(cache, name)).id);
    default:
      throw usage(command === undefined ? 'no command given' : `unknown command ${command}`);
  }
}

function parseArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        fresh: { type: 'boolean' },
        name: { type: 'string' },
        include: { type: 'string' },
        json: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

function usage(problem: string): SeamlessError {
  return new SeamlessError('REQUEST_INVALID', `${problem}\n${USAGE}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  await main();
} catch (thrown) {
  const error = asSeamlessError(thrown);
  process.stderr.write(`template: ${error.message}\n`);
  process.exitCode = ERRORS[error.code].exit;
}
