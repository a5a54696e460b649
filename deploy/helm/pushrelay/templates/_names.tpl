{{- define "pushrelay.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "pushrelay.labels" -}}
app.kubernetes.io/name: pushrelay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
