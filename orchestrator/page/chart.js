/** Memory saved over time, from the operations: backwards from what is saved now. */

/** Points [ms, bytes], oldest first. @param operations newest first */
export function savedOverTime(operations, savedNow, nowMs) {
  const changes = [];
  const ofVm = new Map();
  for (const operation of operations.toReversed()) {
    const { kind, status, vm, startedAt, endedAt, result } = operation;
    if (status !== 'succeeded') continue;
    if (kind === 'park') {
      const bytes = Math.max(0, (result.residentBeforeBytes ?? 0) - (result.residentAfterBytes ?? 0));
      ofVm.set(vm, bytes);
      changes.push([Date.parse(endedAt), bytes]);
    } else if (ofVm.has(vm)) {
      changes.push([Date.parse(startedAt), -ofVm.get(vm)]);
      ofVm.delete(vm);
    }
  }
  changes.sort((a, b) => a[0] - b[0]);
  let bytes = savedNow;
  const points = [[nowMs, bytes]];
  for (const [at, change] of changes.toReversed()) {
    points.push([at, bytes]);
    bytes = Math.max(0, bytes - change);
    points.push([at, bytes]);
  }
  const first = changes[0]?.[0] ?? nowMs - 3600_000;
  points.push([first - Math.max(60_000, (nowMs - first) * 0.02), bytes]);
  return points.reverse();
}

/** @param operations marked where they began: parks below, wakes above */
export function draw(into, points, operations = []) {
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const most = Math.max(1, ...points.map(([, bytes]) => bytes));
  const place = ([at, bytes]) => `${(((at - from) / (to - from || 1)) * 1000).toFixed(1)},${(100 - (bytes / most) * 92).toFixed(1)}`;
  const edge = points.map(place).join(' ');
  const svg = element('svg', { viewBox: '0 0 1000 100', preserveAspectRatio: 'none', role: 'img' });
  svg.setAttribute('aria-label', `At most ${bytesText(most)} saved since ${clock(from)}`);
  svg.append(
    element('polygon', { class: 'area', points: `0,100 ${edge} 1000,100` }),
    element('polyline', { class: 'edge', points: edge }),
    ...operations.flatMap(({ kind, vm, cause, startedAt }) => {
      const at = Date.parse(startedAt);
      if (at < from) return [];
      const [x] = place([at, 0]).split(',');
      const [y1, y2] = kind === 'park' ? [92, 100] : [0, 8];
      const mark = element('line', { class: `mark ${kind}`, x1: x, x2: x, y1, y2 });
      const title = element('title', {});
      title.textContent = `${clock(at)} ${vm}: ${kind}${cause ? `, ${cause}` : ''}`;
      mark.append(title);
      return [mark];
    }),
  );
  const axis = document.createElement('div');
  axis.className = 'axis';
  const highest = Math.max(...points.map(([, bytes]) => bytes));
  for (const text of [clock(from), `most ${bytesText(highest)}`, 'now']) {
    axis.append(Object.assign(document.createElement('span'), { textContent: text }));
  }
  into.replaceChildren(svg, axis);
}

/** 22:10:45, with the date when it was another day; the same in every country. */
export function clock(at) {
  const [date, time] = new Date(at).toLocaleString('sv-SE').split(' ');
  return date === new Date().toLocaleDateString('sv-SE') ? time : `${date} ${time}`;
}

export function bytesText(bytes) {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

function element(name, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
