{{/* Name of the chart's objects. */}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pod. */}}
{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of all objects. The stacks' NetworkPolicies know the operator's pod by component and part-of. */}}
{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: odoo-ai-platform
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The image reference: of the operator, and of the agents that it puts into the stacks' pods. */}}
{{- define "operator.image" -}}
{{- $tagged := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $tagged .Values.image.digest -}}
{{- else -}}
{{- $tagged -}}
{{- end -}}
{{- end -}}

{{/* The watched namespaces, as a JSON list; empty with clusterWide. */}}
{{- define "operator.namespaces" -}}
{{- if .Values.clusterWide -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do where stacks are. Each rule says why. */}}
{{- define "operator.rules" -}}
# The user's intent: read and watched, never written.
- apiGroups: [odoo-ai.atmatasolutions.com]
  resources: [odooaistacks]
  verbs: [get, list, watch]
# A FeatureFlag whose rule goes with it, and a Restore that has not ended, are held by a finalizer, the only thing that
# is written.
- apiGroups: [odoo-ai.atmatasolutions.com]
  resources: [featureflags, restores]
  verbs: [get, list, watch, patch]
# A stack asks its Backup for a backup before a migration: by an annotation, the only thing that is written.
- apiGroups: [odoo-ai.atmatasolutions.com]
  resources: [backups]
  verbs: [get, list, watch, patch]
# What the operator saw and did is reported in the status.
- apiGroups: [odoo-ai.atmatasolutions.com]
  resources: [odooaistacks/status, backups/status, restores/status, featureflags/status]
  verbs: [update]
# Children block the foreground deletion of their owner; clusters that check owner references ask for this.
- apiGroups: [odoo-ai.atmatasolutions.com]
  resources: [odooaistacks/finalizers, backups/finalizers, restores/finalizers, featureflags/finalizers]
  verbs: [update]
# Credentials are read, generated once and copied for each revision. What is deleted are copies of revisions beyond
# revisionHistoryLimit, by their UID: never a generated or a user's Secret.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# The user's configuration is read and copied for each revision.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Services lead to the components. Deleted, as the kinds below, where the stack's spec wants them no more: only what
# the stack itself owns, by UID.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# The pods' own identity, without rights, that carries the pull secrets.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Volumes of the database, of beat and of backups. Never deleted: data outlives the stack unless its owner reference says otherwise.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# The gates look at pods: readiness, restarts, the cause of a failure.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The components themselves.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# Who may talk to whom.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Routes from outside: Traefik's kinds, or standard Ingresses where the cluster has none of Traefik's.
- apiGroups: [traefik.io]
  resources: [ingressroutes, middlewares]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
# Who stands behind a route: nothing but a Service's pods should.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
# A drain takes one pod at a time, where there are several.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Stored revisions: written once, read when they are applied, deleted beyond revisionHistoryLimit.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, delete]
# Migrations, backups and verifications; an unfinished migration of a revision that is not wanted any more is deleted.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# The schedules of a Backup: they work while the operator doesn't. They go with the Backup, by their owner reference.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch]
# Why a volume isn't bound or can't be mounted is told by Events only; read for pods that wait, no others.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# One Event for each transition, repeated ones are counted up.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
