/** What can be said at each place of the command line. Every shell’s completion is made from this one table. */
import type { Command } from 'commander';

export interface Place {
  /** The commands said so far: `token create`; empty at the beginning. */
  path: string;
  words: Word[];
  /** Names of VMs, too; the shell asks the service for them. */
  takesVm: boolean;
}

export interface Word {
  word: string;
  about: string;
}

export function placesOf(cli: Command): Place[] {
  const overall = optionsOf(cli);
  return nodes(cli).map(({ path, command }) => {
    const [argument] = command.registeredArguments;
    const words = [
      ...command.commands.map((child) => ({ word: child.name(), about: child.description() })),
      ...(argument?.argChoices ?? []).map((word) => ({ word, about: '' })),
      ...optionsOf(command),
      ...overall,
    ];
    return {
      path,
      words: [...new Map(words.map((each) => [each.word, each])).values()],
      takesVm: argument?.name() === 'vm',
    };
  });
}

function nodes(command: Command, path: readonly string[] = []): { path: string; command: Command }[] {
  const below = command.commands.flatMap((child) => nodes(child, [...path, child.name()]));
  return [{ path: path.join(' '), command }, ...below];
}

function optionsOf(command: Command): Word[] {
  return command.options.flatMap(({ long, description }) =>
    long ? [{ word: long, about: description }] : [],
  );
}
