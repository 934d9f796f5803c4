/** The completions in the shells themselves, which scripts/test installs: what a word that was begun becomes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, describe, expect, test } from 'vitest';
import { SHELLS } from '../../../../orchestrator/cli/completion/command.ts';
import { placesOf } from '../../../../orchestrator/cli/completion/places.ts';
import { program } from '../../../../orchestrator/cli/program.ts';

/** Stands for the service; each shell has it in its own words. */
const LIST = `printf 'VM STATE\\nmail awake\\nweb parked\\n'`;

/** Says the last word of `$LINE` as the completion makes it, by `$COMPLETION`. */
const COMPLETED: Record<keyof typeof SHELLS, string> = {
  bash: `seamless() { ${LIST}; }
eval "$COMPLETION"
COMP_WORDS=($LINE); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); __seamless; echo "\${COMPREPLY[@]}"`,
  // It completes on a terminal alone.
  zsh: `zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal 'autoload -U compinit; compinit -D; eval "$COMPLETION"'
zpty -w terminal 'seamless() { if [ $1 = list ]; then ${LIST.replaceAll("'", '"')}; else print -r "said: <$@[-1]>"; fi }; print "rea""dy"'
zpty -r terminal seen '*ready*'
zpty -w terminal "$LINE"$'\\t'
zpty -r terminal seen '*said: <*>*'
print -r -- "\${\${seen##*said: <}%%>*}"`,
  fish: `function seamless; ${LIST}; end
eval (string join \\n $COMPLETION | string collect)
complete -C $LINE | string match -r '^\\S+'`,
};

const home = mkdtempSync(join(tmpdir(), 'seamless-shells-'));
afterAll(() => rmSync(home, { recursive: true }));

describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
  test.each([
    ['pa', 'park'],
    ['token re', 'revoke'],
    ['token --json re', 'revoke'],
    ['unpark --f', '--force'],
    ['--socket /x profile l', 'learn'],
    ['completion z', 'zsh'],
    ['show we', 'web'],
  ])('completes “%s”', async (said, word) => {
    const COMPLETION = SHELLS[shell](placesOf(program()));
    const { stdout } = await execa(shell, ['-c', COMPLETED[shell]], {
      // A shell makes itself at home, in folders that go with the test.
      env: {
        COMPLETION,
        LINE: `seamless ${said}`,
        HOME: home,
        XDG_DATA_HOME: home,
        XDG_CONFIG_HOME: home,
        TERM: 'dumb',
      },
      timeout: 10_000,
    });
    expect(stdout).toBe(word);
  });
});
