{{/* The release's name, and the chart's where that is not in it. */}}
{{- define "netatop.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods: it never changes. */}}
{{- define "netatop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "netatop.labels" -}}
{{ include "netatop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* With the hash of what is in it, so that a change is a rollout. */}}
{{- define "netatop.config" -}}
{{ include "netatop.name" . }}-{{ sha256sum .Values.config | trunc 10 }}
{{- end -}}
