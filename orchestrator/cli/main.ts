#!/usr/bin/env node
/** `seamless`: the command line of the orchestrator's API (docs/cli.md). */
import { program } from './program.ts';

await program().parseAsync();
