/** The figures as SVG, drawn by echarts without a browser. */
import * as echarts from 'echarts';

export interface Series {
  name: string;
  /** x, y; a y that is null was not measured. */
  points: readonly (readonly [string | number, number | null])[];
}

export interface Plot {
  title: string;
  kind: 'bar' | 'line';
  x: string;
  y: string;
  /** Both axes by powers of ten: for what spans them. */
  logarithmic?: boolean;
  series: readonly Series[];
}

const SIZE = { width: 820, height: 400 };

/** An SVG document; the same for the same plot. */
export function draw({ title, kind, x, y, logarithmic = false, series }: Plot): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, ...SIZE });
  try {
    const categories = [...new Set(series.flatMap(({ points }) => points.map(([at]) => String(at))))];
    const isCategory = kind === 'bar' || !logarithmic;
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      title: { text: title, left: 'center', top: 6, textStyle: { fontSize: 15 } },
      legend: { bottom: 4 },
      grid: { left: 70, right: 30, top: 44, bottom: 76 },
      xAxis: isCategory
        ? { type: 'category', data: categories, name: x, nameLocation: 'middle', nameGap: 28 }
        : { type: 'log', name: x, nameLocation: 'middle', nameGap: 28 },
      yAxis: { type: logarithmic ? 'log' : 'value', name: y, nameLocation: 'middle', nameGap: 50 },
      series: series.map(({ name, points }) => ({
        name,
        type: kind,
        ...(kind === 'line' ? { symbolSize: 7, connectNulls: true } : {}),
        data: isCategory
          ? categories.map((category) => points.find(([at]) => String(at) === category)?.[1] ?? null)
          : points.filter(([, value]) => value !== null).map((point) => [...point]),
      })),
    });
    return withStableNames(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

/** zrender numbers its definitions by a counter of the process: else the same plot would differ from run to run. */
function withStableNames(svg: string): string {
  const names = new Map<string, string>();
  return `${svg.replaceAll(/\bzr\d+-[a-z]+-?\d+\b|\bzr\d+-c\d+\b/g, (name) => {
    if (!names.has(name)) names.set(name, `n${names.size}`);
    return names.get(name) ?? name;
  })}\n`;
}
