/** For bash: one function that walks the words said so far to a place, and offers what can be said there. */
import type { Place } from './places.ts';

export function bashCompletion(places: readonly Place[]): string {
  const cases = places.map(({ path, words, takesVm }) => {
    const names = takesVm ? ' $(__seamless_vms)' : '';
    return `    '${path}') words="${words.map(({ word }) => word).join(' ')}${names}" ;;`;
  });
  return `# bash completion of seamless; made by \`seamless completion bash\`
__seamless_vms() { seamless list 2>/dev/null | awk 'NR > 1 { print $1 }'; }
__seamless() {
  local current="\${COMP_WORDS[COMP_CWORD]}" at='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
${walk(places)}
  done
  case "$at" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F __seamless seamless`;
}

/** The body of a loop over `$word`, which moves `$at` on; as bash and zsh both have it. */
export function walk(places: readonly Place[]): string {
  const said = '"${at:+$at }$word"';
  const known = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`);
  return `    case ${said} in
      ${known.join(' | ')}) at=${said} ;;
    esac`;
}
