/** For fish: a line for each word, which holds at its place. */
import type { Place } from './places.ts';

export function fishCompletion(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words, takesVm }) => {
    const here = `complete -c seamless -n ${quoted(`__seamless_at ${quoted(path)}`)}`;
    const said = words.map(({ word, about }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      return `${here} ${what}${about === '' ? '' : ` -d ${quoted(about)}`}`;
    });
    return takesVm ? [...said, `${here} -f -a '(__seamless_vms)'`] : said;
  });
  const known = places.filter(({ path }) => path !== '').map(({ path }) => quoted(path));
  return `# fish completion of seamless; made by \`seamless completion fish\`
function __seamless_vms
    seamless list 2>/dev/null | awk 'NR > 1 { print $1 }'
end
function __seamless_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        set -l said (string trim -- "$at $word")
        contains -- $said ${known.join(' ')}; and set at $said
    end
    test "$at" = "$argv[1]"
end
${lines.join('\n')}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
