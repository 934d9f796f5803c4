/** For zsh: as for bash, with what each word means. To be sourced, or as `_seamless` in a folder of `$fpath`. */
import { walk } from './bash.ts';
import type { Place } from './places.ts';

export function zshCompletion(places: readonly Place[]): string {
  const cases = places.map(({ path, words, takesVm }) => {
    const described = (isOption: boolean) =>
      words
        .filter(({ word }) => word.startsWith('--') === isOption)
        .map(({ word, about }) => quoted(`${word}:${about}`))
        .join(' ');
    const names = takesVm ? ' ${(f)"$(__seamless_vms)"}' : '';
    return `    ${quoted(path)}) here=(${described(false)}${names}) options=(${described(true)}) ;;`;
  });
  return `#compdef seamless
# zsh completion of seamless; made by \`seamless completion zsh\`
__seamless_vms() { seamless list 2>/dev/null | awk 'NR > 1 { print $1 }' }
_seamless() {
  local at='' word
  local -a here options
  for word in "\${(@)words[2,CURRENT-1]}"; do
${walk(places)}
  done
  case "$at" in
${cases.join('\n')}
  esac
  _describe -t commands seamless here || _describe -o option options || _files
}
if [ "\${funcstack[1]}" = _seamless ]; then _seamless; else compdef _seamless seamless; fi`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
