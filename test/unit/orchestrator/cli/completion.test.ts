/** The completions in the shells themselves, which scripts/test installs. */
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { SHELLS } from '../../../../orchestrator/cli/completion/command.ts';
import { placesOf } from '../../../../orchestrator/cli/completion/places.ts';
import { program } from '../../../../orchestrator/cli/program.ts';

type Shell = keyof typeof SHELLS;

/** How each is asked what it would offer behind these words. */
const ASKED: Record<Shell, (words: readonly string[], completion: string) => string> = {
  bash: (words, completion) => `seamless() { printf 'VM STATE\\nvm1 awake\\nvm2 awake\\n'; }
${completion}
COMP_WORDS=(seamless ${words.join(' ')}); COMP_CWORD=${words.length}; __seamless; printf '%s\\n' "\${COMPREPLY[@]}"`,
  // zsh completes on a terminal alone: here it says what it would describe there, and what does not begin so is left out.
  zsh: (words, completion) => `seamless() { printf 'VM STATE\\nvm1 awake\\nvm2 awake\\n' }
compdef() { [ "$*" = '_seamless seamless' ] }
_describe() { for each in "\${(@P)\${@[-1]}}"; do case "$each" in "\${words[CURRENT]}"*) print -r -- "\${each%%:*}" ;; esac; done }
${completion}
words=(seamless ${words.join(' ')}); CURRENT=${words.length + 1}; _seamless`,
  fish: (words, completion) => `function seamless; printf 'VM STATE\\nvm1 awake\\nvm2 awake\\n'; end
${completion}
complete -C 'seamless ${words.join(' ')}' | string match -r '^\\S+'`,
};

describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
  test.each([
    [['pa'], ['park']],
    [['token', 're'], ['revoke']],
    [['token', '--json', 're'], ['revoke']],
    [['unpark', '--f'], ['--force']],
    [['--socket', '/x', 'profile', 'l'], ['learn']],
    [['completion', 'z'], ['zsh']],
    [
      ['show', 'vm'],
      ['vm1', 'vm2'],
    ],
  ])('completes %j', async (words, expected) => {
    const script = ASKED[shell](words, SHELLS[shell](placesOf(program())));
    const { stdout } = await execa(shell, [shell === 'zsh' ? '-fc' : '-c', script], {
      env: { HOME: '/nonexistent', XDG_DATA_HOME: '/tmp', XDG_CONFIG_HOME: '/nonexistent' },
    });
    expect(stdout.split('\n')).toEqual(expected);
  });
});
