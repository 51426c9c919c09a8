// Reports of readers and of other makers, each as text.
import type { Results } from '../../../shared/types';
import { timeText } from '../words';
import { ReportText } from './ReportText';

export function ReportList({ title, study, reports }: { title: string; study: string; reports: Results['reports'] }) {
  return (
    <>
      <h3>{title}</h3>
      {reports.map(report => (
        <ReportText
          key={report.sop_instance_uid}
          study={study}
          sop={report.sop_instance_uid}
          title={`${report.title || 'Report'} – ${report.maker || 'maker not named'}, ${timeText(report.created)}`}
        />
      ))}
    </>
  );
}
