/** What the guest's disks have moved since the boot: disks, not their partitions, nor what lies over other disks or in memory. */
const WHOLE_DISK = /^(vd[a-z]+|sd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/;
const SECTOR_BYTES = 512;

/** Of all disks together, by the text of /proc/diskstats. */
export function diskTraffic(diskstats: string): { readBytes: number; writtenBytes: number } {
  const rows = diskstats.split('\n').map((line) => line.trim().split(/\s+/));
  const disks = rows.filter(([, , name = '']) => WHOLE_DISK.test(name));
  const sectors = (column: number) => disks.reduce((total, row) => total + Number(row[column] ?? 0), 0);
  return { readBytes: sectors(5) * SECTOR_BYTES, writtenBytes: sectors(9) * SECTOR_BYTES };
}
