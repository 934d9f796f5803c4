/** `seamless completion bash`: made from the tree of commands, so it can’t be out of date. Names of VMs are asked for. */
import type { Command } from 'commander';
import { print } from './session.ts';

export function addCompletion(cli: Command): void {
  cli
    .command('completion')
    .description('print what makes a shell complete: source <(seamless completion bash)')
    .argument('<shell>', 'bash')
    .action((shell: string, _options, self: Command) => {
      if (shell !== 'bash') self.error(`Expected bash, got “${shell}”`);
      print(bashCompletion(cli));
    });
}

export function bashCompletion(cli: Command): string {
  const cases = nodes(cli).map(({ path, command }) => {
    const words = [
      ...command.commands.map((child) => child.name()),
      ...optionsOf(command),
      ...optionsOf(cli),
    ];
    const takesVm = command.registeredArguments[0]?.name() === 'vm';
    const names = takesVm ? ' $(__seamless_vms)' : '';
    return `    '${path}') words="${[...new Set(words)].join(' ')}${names}" ;;`;
  });
  const groups = nodes(cli).filter(({ command }) => command.commands.length > 0 && command !== cli);
  return `# bash completion of seamless; made by \`seamless completion bash\`
__seamless_vms() { seamless list 2>/dev/null | awk 'NR > 1 { print $1 }'; }
__seamless() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at $word" in
      ${[...groups.map(({ path }) => `'${path} '*`)].join(' | ')}) at="$at $word" ;;
      ${cli.commands.map((child) => `' ${child.name()}'`).join(' | ')}) at="$word" ;;
    esac
  done
  case "$at" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F __seamless seamless`;
}

function nodes(command: Command, path: readonly string[] = []): { path: string; command: Command }[] {
  const below = command.commands.flatMap((child) => nodes(child, [...path, child.name()]));
  return [{ path: path.join(' '), command }, ...below];
}

function optionsOf(command: Command): string[] {
  return command.options.flatMap(({ long }) => (long ? [long] : []));
}
