/** `seamless completion SHELL`: made from the tree of commands, so it can’t be out of date. */
import { Argument, type Command } from 'commander';
import { print } from '../session.ts';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { type Place, placesOf } from './places.ts';
import { zshCompletion } from './zsh.ts';

export const SHELLS = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
} satisfies Record<string, (places: readonly Place[]) => string>;

export function addCompletion(cli: Command): void {
  cli
    .command('completion')
    .description('print what makes a shell complete: source <(seamless completion bash)')
    .addArgument(new Argument('<shell>').choices(Object.keys(SHELLS)))
    .action((shell: keyof typeof SHELLS) => print(SHELLS[shell](placesOf(cli))));
}
