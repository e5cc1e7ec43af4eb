{{- define "x" }}{{ end -}}
